"""The pretence as a whole: entered once, left without a trace."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch.amp import autocast_mode
from torch.utils import checkpoint

from harness.errors import UsageError
from harness.precision.cuda_policy.emulation import emulate_cuda_autocast
from harness.pretence import (
    backends,
    children,
    compiling,
    distributed,
    loading,
    randomness,
    refusals,
    runtime,
    streams,
    tensor_types,
)
from harness.pretence.callbacks import in_mode, is_on, without_mode
from harness.pretence.devices import DeviceMode
from harness.pretence.imports import Action, AfterImport
from harness.pretence.patches import Patches
from harness.pretence.placement import Placement
from harness.process_state import kept_state

_AFTER_IMPORT: dict[str, Action] = {
    "torch.utils.cpp_extension": refusals.patch_extensions,
    "triton.runtime.jit": refusals.patch_triton,
    "cupy": refusals.patch_cupy,
}
_LOCK = threading.RLock()
_INSIDE: list[Placement] = []


@contextlib.contextmanager
def pretend_cuda(devices: int = 1) -> Iterator[None]:
    """Run the block as on a machine with CUDA GPUs, on the CPU: an unmodified training script works inside.

        with pretend_cuda():
            runpy.run_path("train.py", run_name="__main__")

    A tensor that was put on a GPU says so (``is_cuda``, ``device``), and so does what is computed from it; moving
    it copies it, as between a machine and its GPU.  Autocast gives CUDA's dtypes, by
    :func:`harness.precision.cuda_policy.emulation.emulate_cuda_autocast`; gradient scalers are on.  What can't be
    pretended is refused.  ``docs/reference/pretended-cuda.md`` says more.

    It is process-wide: one pretence at a time, and a block inside it with as many devices is the same.  Threads that
    are started inside are in it too, for as long as they run; other threads meet a torch whose functions are replaced,
    but whose tensors are as they are.  Enter it before a script's modules are imported: a function of ``torch.cuda``
    that was imported by its name before is the old one.

    At the end the process is as before: every attribute, flag, default, autocast's state and the CPU's random numbers.

    Args:
        devices: how many GPUs there seem to be, at least 1.

    Raises:
        UsageError: there is a pretence already, with another number of devices or from another thread.
        PrecisionError: this torch doesn't let CUDA's autocast be emulated.
        CannotPretendError: inside, something was called that only a GPU has.
    """
    if devices < 1:
        raise UsageError(f"CUDA can't be pretended with {devices} GPUs: give a number from 1 up.")
    with _LOCK:
        outer = _INSIDE[-1] if _INSIDE else None
        if outer is None:
            _INSIDE.append(placement := Placement(devices))
    if outer is not None:
        if outer.devices != devices or not is_on():
            raise UsageError(
                f"CUDA is pretended already, with {outer.devices} GPUs: leave one pretend_cuda() out, or ask for as "
                "many in the same thread."
            )
        yield
        return
    try:
        with contextlib.ExitStack() as stack:
            _enter(stack, placement)
            yield
    finally:
        _INSIDE.clear()


def _enter(stack: contextlib.ExitStack, placement: Placement) -> None:
    # The first optimizer of a process imports it: inside, it would keep stand-ins for good.
    importlib.import_module("torch._dynamo")
    stack.enter_context(kept_state())
    stack.enter_context(backends.kept_flags())
    stack.callback(torch.set_rng_state, torch.get_rng_state())
    stack.enter_context(emulate_cuda_autocast(enabled=False))
    patches = Patches()
    stack.callback(patches.restore)
    mode = DeviceMode(placement)
    _install(patches, placement, mode)
    finder = AfterImport(_AFTER_IMPORT, patches)
    stack.callback(finder.remove)
    finder.install()
    stack.enter_context(streams.streams_of(placement))
    stack.callback(placement.end)
    stack.enter_context(mode)
    stack.callback(_put_default_device_back, _default_device())


def _install(patches: Patches, placement: Placement, mode: DeviceMode) -> None:
    cuda = torch.cuda
    memory, random = runtime.memory(placement), randomness.stand_ins(placement)
    patches.put_all(cuda, {**runtime.devices(placement), **runtime.activity(), **memory, **random, **streams.STAND_INS})
    patches.put_all(cuda.memory, memory)
    patches.put_all(cuda.random, random)
    patches.put_all(cuda.streams, {name: streams.STAND_INS[name] for name in ("Stream", "Event")})
    patches.put_all(torch, {name: streams.STAND_INS[name] for name in ("Stream", "Event")})
    patches.put_all(cuda.nvtx, runtime.nvtx())
    patches.put_all(cuda, tensor_types.stand_ins(placement))
    patches.put(torch, "Generator", randomness.generator_class(placement))
    patches.wrap(torch, "set_default_tensor_type", tensor_types.set_default)
    patches.put(torch.Tensor, "record_stream", runtime.nothing)  # its own asks for a stream of C++
    # Autograd's functions run hooks and checkpoints: with the mode on, which a call seen by the mode would switch off.
    patches.put_all(torch.autograd, {"has_torch_function": _has_override})
    patches.wrap(torch.autograd, "_engine_run_backward", lambda stock: _noting(stock, placement))
    patches.wrap(torch.autograd.graph.saved_tensors_hooks, "__init__", lambda stock: _hooking(stock, mode))
    # What an op saves for its backward is asked before the op has ended, and so before its results are noted.
    checks = getattr(checkpoint, "_allowed_determinism_checks_to_fns", {})
    for name, check in list(checks.items()):
        patches.put_item(checks, name, without_mode(check))
    # `custom_fwd` compares devices, and the emulation has told it that all tensors are the CPU's.
    patches.wrap(autocast_mode, "_cast", without_mode)
    patches.wrap(threading.Thread, "start", lambda stock: _starting(stock, placement))
    backends.install(patches, placement)
    loading.install(patches, placement)
    distributed.install(patches)
    compiling.install(patches)
    children.install(patches, placement.devices)
    refusals.install(patches)


def _has_override(values: Any) -> bool:
    """Whether a tensor class among the values has its own ``__torch_function__``."""
    return any(_override_of(type(value)) not in _PLAIN for value in values if isinstance(value, torch.Tensor))


def _override_of(cls: Any) -> Any:
    return getattr(cls.__torch_function__, "__func__", cls.__torch_function__)


_PLAIN = (_override_of(torch.Tensor), _override_of(torch.nn.Parameter))


def _noting(stock: Any, placement: Placement) -> Any:
    def run_backward(outputs: Any, *args: Any, **kwargs: Any) -> Any:
        gradients = stock(outputs, *args, **kwargs)
        index = placement.first(outputs)
        for gradient in gradients if index >= 0 and isinstance(gradients, tuple) else ():
            if gradient is not None:
                placement.note(gradient, index)
        return gradients

    return run_backward


def _hooking(stock: Any, mode: DeviceMode) -> Any:
    def __init__(self: Any, pack_hook: Any, unpack_hook: Any) -> None:
        stock(self, in_mode(mode, pack_hook), in_mode(mode, unpack_hook))

    return __init__


def _starting(stock: Any, placement: Placement) -> Any:
    def start(self: threading.Thread) -> None:
        run = self.run

        def run_inside() -> None:
            if not placement.active:
                run()
                return
            with emulate_cuda_autocast(enabled=False), DeviceMode(placement):
                run()

        self.run = run_inside  # type: ignore[method-assign]
        stock(self)

    return start


def _default_device() -> torch.device | None:
    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    return None if context is None else context.device


def _put_default_device_back(device: torch.device | None) -> None:
    if _default_device() != device:
        torch.set_default_device(device)
