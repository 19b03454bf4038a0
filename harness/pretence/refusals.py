"""What can't be pretended: one error that says which call it was, and where in the script."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import torch

from harness.errors import SubjectError
from harness.pretence.patches import Patches

_HERE = str(Path(__file__).parent)
_TORCH = str(Path(torch.__file__).parent)

# Names of `torch.cuda`, each with what it is.
_REFUSED = {
    "CUDAGraph": "CUDA graphs work",
    "graph": "CUDA graphs work",
    "make_graphed_callables": "CUDA graphs work",
    "graph_pool_handle": "CUDA graphs work",
    "CUDAPluggableAllocator": "the GPU's allocator works",
    "change_current_allocator": "the GPU's allocator works",
    "caching_allocator_alloc": "the GPU's allocator works",
    "caching_allocator_delete": "the GPU's allocator works",
    "MemPool": "the GPU's allocator works",
    "use_mem_pool": "the GPU's allocator works",
    "ExternalStream": "a stream of another library works",
    "get_stream_from_external": "a stream of another library works",
    "GreenContext": "a part of a GPU is there",
    "_compile_kernel": "a kernel of CUDA code runs",
}
_NCCL = ("all_reduce", "reduce", "broadcast", "all_gather", "reduce_scatter")


class CannotPretendError(SubjectError):
    """The script calls something that only a GPU has."""


def place() -> str:
    """The line of the script that is being run: the innermost one outside of torch and of this room."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        file = frame.f_code.co_filename
        if not file.startswith((_HERE, _TORCH, "<frozen")):
            return f"{file}, line {frame.f_lineno}"
        frame = frame.f_back
    return "a line that can't be told"


def refuse(call: str, what: str = "it works") -> NoReturn:
    """Stop the script.

    Raises:
        CannotPretendError: always.
    """
    raise CannotPretendError(
        f"{place()}: {call} can't be pretended, because {what} only with a real GPU: switch it off in the script, or "
        "run this part on a GPU."
    )


def refusing(call: str, what: str) -> Any:
    """A stand-in that is refused when it is called."""

    def refused(*args: Any, **kwargs: Any) -> NoReturn:
        refuse(f"{call}()", what)

    return refused


def install(patches: Patches) -> None:
    """Put stand-ins that refuse in place of what ``torch.cuda`` has for real GPUs alone."""
    refused = {name: refusing(f"torch.cuda.{name}", what) for name, what in _REFUSED.items()}
    for module in (torch.cuda, torch.cuda.graphs, torch.cuda.memory):
        patches.put_all(module, refused)
    patches.put_all(
        getattr(torch, "accelerator", None), {"Graph": refusing("torch.accelerator.Graph", "a graph works")}
    )
    jiterator = getattr(torch.cuda, "jiterator", None)
    for name in ("_create_jit_fn", "_create_multi_output_jit_fn"):
        patches.put_all(jiterator, {name: refusing(f"torch.cuda.jiterator.{name}", "a kernel of CUDA code runs")})
    patches.put_all(
        torch.cuda.nccl,
        {name: refusing(f"torch.cuda.nccl.{name}", "NCCL without a process group works") for name in _NCCL},
    )


def patch_extensions(module: ModuleType, patches: Patches) -> None:
    """``torch.utils.cpp_extension``: what is made of C++ alone is built as ever."""

    def checking(stock: Any, name: str) -> Any:
        def load(*args: Any, **kwargs: Any) -> Any:
            sources = kwargs.get("sources", args[1] if len(args) > 1 else ())
            files = [sources] if isinstance(sources, (str, Path)) else list(sources or ())
            cuda = (
                kwargs.get("with_cuda")
                or kwargs.get("cuda_sources")
                or (name == "load_inline" and len(args) > 2 and args[2])
            )
            if cuda or (name == "load" and any(str(file).endswith((".cu", ".cuh")) for file in files)):
                refuse(f"torch.utils.cpp_extension.{name}()", "an extension with CUDA code works")
            return stock(*args, **kwargs)

        return load

    for name in ("load", "load_inline"):
        patches.wrap(module, name, functools.partial(checking, name=name))
    patches.put_all(
        module,
        {"CUDAExtension": refusing("torch.utils.cpp_extension.CUDAExtension", "an extension with CUDA code works")},
    )


def patch_triton(module: ModuleType, patches: Patches) -> None:
    """``triton.runtime.jit``: a kernel may be defined, and is refused when it is launched."""
    kernel = getattr(module, "JITFunction", None)
    if kernel is not None:

        def run(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
            refuse(f"the Triton kernel {getattr(self, '__name__', '')}", "it runs")

        patches.put(kernel, "run", run)


def patch_cupy(module: ModuleType, patches: Patches) -> None:
    """CuPy has nothing that works without a GPU."""
    refuse("import cupy", "CuPy works")
