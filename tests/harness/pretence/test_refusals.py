"""What can't be pretended is refused, naming the call and its line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from harness.errors import ExitCode, HarnessError
from harness.pretence import CannotPretendError, pretend_cuda

_HAS_GRAPH = hasattr(getattr(torch, "accelerator", None), "Graph")
_CALLS = {
    "torch.cuda.CUDAGraph()": "torch.cuda.CUDAGraph()",
    **({"torch.accelerator.Graph()": "torch.accelerator.Graph()"} if _HAS_GRAPH else {}),
    "torch.cuda.graph(None)": "torch.cuda.graph()",
    "torch.cuda.make_graphed_callables(None, ())": "torch.cuda.make_graphed_callables()",
    "torch.cuda.graph_pool_handle()": "torch.cuda.graph_pool_handle()",
    "torch.cuda.memory.CUDAPluggableAllocator('a', 'b', 'c')": "CUDAPluggableAllocator",
    "torch.cuda.memory.change_current_allocator(None)": "change_current_allocator",
    "torch.cuda.caching_allocator_alloc(9)": "caching_allocator_alloc",
    "torch.cuda.jiterator._create_jit_fn('x')": "jiterator",
    "torch.cuda.nccl.all_reduce([])": "torch.cuda.nccl.all_reduce()",
    "torch.cuda.cudart().cudaMalloc(9)": "cudaMalloc",
    "torch.ones(1).cuda().__cuda_array_interface__": "__cuda_array_interface__",
    "cpp.load('name', ['kernel.cu'])": "torch.utils.cpp_extension.load()",
    "cpp.load_inline('name', cpp_sources='', cuda_sources='x')": "torch.utils.cpp_extension.load_inline()",
    "cpp.CUDAExtension('name', ['kernel.cu'])": "CUDAExtension",
}


@pytest.fixture
def _pretence() -> Iterator[None]:
    with pretend_cuda():
        yield


@pytest.mark.usefixtures("_pretence")
@pytest.mark.parametrize("call", _CALLS)
def test_it_is_refused(call: str, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    text = "import torch\n" + ("import torch.utils.cpp_extension as cpp\n" if call.startswith("cpp.") else "\n") + call
    with pytest.raises(CannotPretendError) as caught:
        exec(compile(text, str(script), "exec"), {})
    message = str(caught.value)
    assert message.startswith(f"{script}, line 3: ")
    assert _CALLS[call] in message
    assert message.count("\n") == 0


def test_the_exit_code_is_the_subjects() -> None:
    assert issubclass(CannotPretendError, HarnessError)
    assert CannotPretendError.exit_code == ExitCode.SUBJECT == 3


def test_an_extension_of_cpp_alone_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils import cpp_extension

    monkeypatch.setattr(cpp_extension, "load", lambda *args, **kwargs: (args, kwargs))
    with pretend_cuda():
        assert cpp_extension.load("name", ["a.cpp"]) == (("name", ["a.cpp"]), {})


def test_cupy_is_refused_where_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cupy.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pretend_cuda(), pytest.raises(CannotPretendError, match="import cupy"):
        __import__("cupy")
    assert "cupy" not in sys.modules


def test_a_triton_kernel_is_refused_when_it_is_launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "triton" / "runtime"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").write_text("")
    (package / "jit.py").write_text("class JITFunction:\n    __name__ = 'add'\n    def run(self, *a): return 'ran'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.split(".")[0] == "triton"]:
        monkeypatch.delitem(sys.modules, name)
    try:
        with pretend_cuda():
            from triton.runtime.jit import JITFunction  # type: ignore[import-not-found]

            with pytest.raises(CannotPretendError, match="Triton kernel add"):
                JITFunction().run(1)
        assert JITFunction().run(1) == "ran"
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "triton"]:
            del sys.modules[name]


def test_a_script_that_is_refused_ends_with_the_exit_code(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import sys, torch\nassert sys.argv[1:] == ['--fast']\nx = torch.ones(1).cuda()\ntorch.cuda.CUDAGraph()\n"
    )
    command = [sys.executable, "-m", "harness.pretence", str(script), "--fast"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 3
    assert ended.stderr.startswith(f"{script}, line 4: torch.cuda.CUDAGraph()")
    assert "Traceback" not in ended.stderr


def test_a_missing_script_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from harness.pretence.__main__ import main

    assert main([str(tmp_path / "none.py")]) == ExitCode.USAGE
    assert "there is no script" in capsys.readouterr().err
    assert not torch.cuda.is_initialized()
