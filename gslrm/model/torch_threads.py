"""Compiled tasks on the threads that torch's own operations run on.

After an operation torch's OpenMP threads stay awake for a while and keep their cores busy: a thread of one's own would
wait for a core all that time, while one of them takes up work at once. They are asked by OpenMP's
entry for GCC's code, ``GOMP_parallel``, which LLVM's and Intel's runtimes have too. Where it isn't found, and in a
process that was forked, which has lost these threads and would wait for them for ever, Python's threads do it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import pathlib
import threading
from collections.abc import Callable

import torch

_TASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_FORKED_WITHOUT_EXEC = 0x40  # PF_FORKNOEXEC of Linux' include/linux/sched.h


def run_on_threads(task: int, data: int, threads: int) -> None:
    """Call a task from several threads at once, this one among them; returns when all are done.

    Args:
        task: address of ``void task(void *data)``, which takes its share of the work until there is no more, however
            many it shares it with, and neither raises nor touches a Python object.
        data: address of what it is given.
        threads: how many, at least 1.
    """
    if threads == 1:
        _callable(task)(data)
        return
    parallel = _openmp()
    if parallel is not None:
        parallel(task, data, threads, 0)
        return
    function = _callable(task)
    others = [threading.Thread(target=function, args=(data,), daemon=True) for _ in range(threads - 1)]
    for other in others:
        other.start()
    function(data)
    for other in others:
        other.join()


_callable = functools.cache(_TASK)


@functools.cache
def _openmp() -> Callable[[int, int, int, int], None] | None:
    """``GOMP_parallel`` of the OpenMP runtime that torch is linked with."""
    if _forked():
        return None
    library = pathlib.Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    with contextlib.suppress(OSError, AttributeError):
        # Its symbols, and those of what it is linked with.
        parallel = ctypes.CDLL(os.fspath(library)).GOMP_parallel
        parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
        parallel.restype = None
        function: Callable[[int, int, int, int], None] = parallel
        return function
    return None


def _forked() -> bool:
    """Whether this process was forked and has not called exec since; unless it can be told, it counts as forked."""
    try:
        # The ninth field; the second, a name in brackets, may hold anything.
        flags = pathlib.Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return bool(int(flags[6]) & _FORKED_WITHOUT_EXEC)
    except (OSError, ValueError, IndexError):
        return True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_openmp.cache_clear)
