"""A task on several threads: how many call it, and what a forked process does."""

from __future__ import annotations

import ctypes
import os
import sys
import threading

import pytest

from gslrm.model import torch_threads
from gslrm.model.torch_threads import run_on_threads

_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no process is known not to be forked")


def _callers(threads: int) -> set[int]:
    """The threads that call a task, which ends when all of them are in it."""
    callers: set[int] = set()
    together = threading.Barrier(threads)

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def task(data: int) -> None:
        assert data == 4096
        callers.add(threading.get_native_id())
        together.wait(timeout=60)

    run_on_threads(ctypes.cast(task, ctypes.c_void_p).value or 0, 4096, threads)
    return callers


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("openmp", [True, False])
def test_so_many_threads_call_a_task(threads: int, openmp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not openmp:
        monkeypatch.setattr(torch_threads, "_openmp", lambda: None)
    callers = _callers(threads)
    assert len(callers) == threads
    assert threading.get_native_id() in callers


@_LINUX
def test_openmp_s_threads_stay() -> None:
    if torch_threads._openmp() is None:
        pytest.skip("torch's OpenMP runtime has no GOMP_parallel, or this process was forked")
    assert _callers(3) == _callers(3)


@_LINUX
def test_a_forked_process_knows_that_it_is() -> None:
    assert not torch_threads._forked()
    torch_threads._openmp()
    child = os.fork()
    if child == 0:
        right = torch_threads._forked() and torch_threads._openmp() is None
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
