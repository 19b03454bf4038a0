"""CUDA autocast on CPU tensors: the GPU's dtypes on a machine without one.

    with emulate_cuda_autocast(torch.bfloat16):
        loss = subject(x, y)

Inside, a CPU tensor is treated as autocast would treat the CUDA tensor in its place: half-precision
convolutions and matrix products, float32 ``pow`` and ``sum``, and everything else in its inputs' dtype. The
emulation gives CUDA's dtypes, not CUDA's order of summation: values agree with a GPU's to within the dtype's
rounding, not to the bit.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.library import Library

from harness.errors import describe_exception
from harness.precision.cuda_policy import entry_points
from harness.precision.cuda_policy.autocast_lists import read_autocast_lists
from harness.precision.cuda_policy.casting import THREAD, cached_weights_keep_gradients
from harness.precision.cuda_policy.coverage import only_cpu_casts, unlike_dispatcher
from harness.precision.cuda_policy.errors import CudaPolicyError, EmulationUnavailableError, UnknownOpError
from harness.precision.cuda_policy.kernels import Kernels, build_kernels

# What torch says where it would hand one to a kernel written in Python.
_NAMED_TENSOR = "Named tensors are currently unsupported"
_ALLOWED = (torch.float16, torch.bfloat16)


class _Installation:
    """The process-wide part: overridden kernels and replaced entry points, in place while any thread is
    inside.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._users = 0
        self._kernels: Kernels | None = None
        self._installed_once = False
        self._library: Library | None = None
        self._entry_points = entry_points.EntryPoints()

    def acquire(self) -> None:
        with self._lock:
            if self._users == 0:
                try:
                    self._install()
                except CudaPolicyError:
                    self._uninstall()
                    raise
                except Exception as error:
                    self._uninstall()
                    raise EmulationUnavailableError(
                        f"torch {torch.__version__} does not let CUDA autocast be emulated "
                        f"({describe_exception(error)}): use one of the other precisions, or a version of torch that "
                        "the harness is tested with."
                    ) from error
                except BaseException:
                    self._uninstall()
                    raise
            self._users += 1

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._uninstall()

    def left_out(self) -> tuple[tuple[str, str], ...]:
        """The ops that are not emulated, with the reason.

        Raises:
            CudaPolicyError: nothing is.
        """
        with self._lock:
            if not self._installed_once:
                self.acquire()
                self.release()
            assert self._kernels is not None
            return tuple(sorted(self._kernels.left_out.items()))

    def _install(self) -> None:
        if self._kernels is None:
            lists = read_autocast_lists()
            cached_weights_keep_gradients()
            self._kernels = build_kernels(lists, only_cpu_casts(lists), unlike_dispatcher(lists))
        self._library = Library("aten", "IMPL")
        registry: Any = self._library.m
        with warnings.catch_warnings():
            # Torch says once a process that a kernel is overridden, which is what is wanted here.
            warnings.filterwarnings("ignore", message=r"[\s\S]*[Oo]verrid", category=UserWarning)
            for name, kernel in self._kernels.by_op.items():
                # What Library.impl does, without its bookkeeping, in which a second override is an error.
                registry.impl(f"aten::{name}", "AutocastCPU", kernel, True)
        self._entry_points.replace()
        self._installed_once = True

    def _uninstall(self) -> None:
        self._entry_points.restore()
        if self._library is not None:
            self._library._destroy()
            self._library = None


_INSTALLATION = _Installation()


def why_not() -> str | None:
    """Why there is no emulation in the installed torch; None where there is. One sentence without its full stop."""
    try:
        _INSTALLATION.left_out()
    except CudaPolicyError as error:
        return str(error).rstrip(".")
    return None


def left_out() -> tuple[tuple[str, str], ...]:
    """The ops that the emulation leaves out; see :func:`harness.precision.cuda_policy.coverage.unemulated_ops`."""
    return () if why_not() else _INSTALLATION.left_out()


@contextmanager
def refusing_unknown_ops() -> Iterator[None]:
    """Surrounds a call of a subject, and as a decorator a function that calls one: a call of an op whose casts are not
    known comes out as an error even where the subject swallows it.

    Raises:
        UnknownOpError: inside, in this thread, such an op was called under emulated autocast.
    """
    outer, THREAD.unknown = THREAD.unknown, []
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, RuntimeError) and _NAMED_TENSOR in str(error) and THREAD.depth:
            THREAD.unknown.append(
                "named tensors can't be had under emulated CUDA autocast: drop their names with rename(None), or check "
                "this subject in the other precisions."
            )
        if THREAD.unknown and not isinstance(error, UnknownOpError):
            raise UnknownOpError(THREAD.unknown[0]) from error
        raise
    else:
        if THREAD.unknown:
            raise UnknownOpError(THREAD.unknown[0])
    finally:
        THREAD.unknown = outer


@contextmanager
def emulate_cuda_autocast(
    dtype: torch.dtype = torch.float16, *, enabled: bool = True, cache_enabled: bool = True
) -> Iterator[None]:
    """Runs the block as under ``torch.autocast("cuda", dtype)`` on a GPU, on CPU tensors.

    The subject may itself say ``torch.autocast("cuda", ...)``, ``torch.cuda.amp.autocast()``,
    ``enabled=False`` or ``custom_fwd``; the device types "cuda" and "cpu" mean the same inside, so
    ``x.device.type`` does what it does on a GPU. To run a whole training step that opens its own autocast
    regions, backward included, use ``enabled=False``: the block then behaves as a machine with a GPU, and
    autocast is on only where the step says so.

    The state belongs to the thread: a thread that the block starts is outside, as with autocast itself.
    Other threads may use the emulation with another dtype, or stock autocast, at the same time. Blocks nest
    as autocast regions do.

    Two things cannot be seen from here. A ``torch.autocast("cuda")`` object or decorator made before the
    block, on a machine without a GPU, was switched off by torch when it was made (torch warns): import such
    a module inside a block. And a CPU tensor that would stay on the CPU on a GPU machine is cast too.
    What ``torch.compile`` makes of the block is not tested.

    Args:
        dtype: torch.float16 or torch.bfloat16; a nested ``torch.autocast("cuda")`` without a dtype uses it
            too.
        enabled: whether autocast is on in the block itself.
        cache_enabled: whether cast weights are kept for the region, as in ``torch.autocast``.

    Raises:
        ValueError: dtype is neither of the two.
        HeaderNotUnderstoodError: the installed torch's lists cannot be read.
        EmulationUnavailableError: the installed torch lacks something that the emulation stands on.
        UnknownOpError: inside, an op was called whose casts are not known (`coverage` names those).
        BannedUnderAutocastError: inside, an op that CUDA autocast bans was called.
    """
    if dtype not in _ALLOWED:
        raise ValueError(
            f"CUDA autocast is emulated in torch.float16 or torch.bfloat16, not in {dtype}: name one of them."
        )
    with ExitStack() as stack:
        _INSTALLATION.acquire()
        stack.callback(_INSTALLATION.release)
        _enter_thread(stack, dtype)
        if enabled:
            stack.enter_context(torch.autocast("cuda", dtype=dtype, cache_enabled=cache_enabled))
        else:
            torch.set_autocast_enabled("cuda", False)
            torch.set_autocast_dtype("cuda", dtype)
        yield


def _enter_thread(stack: ExitStack, dtype: torch.dtype) -> None:
    """Notes the thread as inside, and its autocast state as it was, to come back on exit."""
    for device in entry_points.DEVICES:
        stack.callback(entry_points.set_enabled, device, torch.is_autocast_enabled(device))
        stack.callback(entry_points.set_dtype, device, torch.get_autocast_dtype(device))
    THREAD.depth += 1
    stack.callback(_leave_thread)


def _leave_thread() -> None:
    THREAD.depth -= 1
    if THREAD.depth == 0:
        THREAD.cache.clear()
