"""A worker forked from this process, which has imported what all of them need: it is at work at once."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import Any, NoReturn

_POLL_SECONDS = 0.005


class ForkedProcess:
    """As much of :class:`subprocess.Popen` as a worker is watched by."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; ``None`` while it lives."""
        if self._code is None:
            with contextlib.suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def wait(self, timeout: float) -> int:
        """Its exit code, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it hasn't, in so many seconds.
        """
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("a worker", timeout)
            time.sleep(_POLL_SECONDS)
        return code

    def kill(self) -> None:
        """At once."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def can_fork() -> bool:
    """Whether a fork of this process can do what a new one can: it has one thread, and nothing of a GPU.

    Elsewhere than on Linux system libraries take no fork.
    """
    if not sys.platform.startswith("linux") or threading.active_count() > 1:
        return False
    import torch

    return not torch.cuda.is_initialized()


def fork(main: Callable[[], NoReturn], output: int, let_go: Callable[[], None]) -> ForkedProcess:
    """Run ``main`` in a process of its own session, with an empty standard input.

    It finds what a new interpreter would: arguments and ``__main__`` of none, signals as they are by default, global
    random numbers of its own.

    Args:
        output: file descriptor of its standard output and error.
        let_go: closes what this process has open and the other must not keep open.
    """
    for stream in (sys.stdout, sys.stderr):
        # Else the child would say it once more.
        with contextlib.suppress(Exception):
            stream.flush()
    process = os.fork()
    if process:
        return ForkedProcess(process)
    try:
        os.setsid()
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_DFL)
        let_go()
        _redirect(output)
        _forget_the_parent()
        main()
    finally:
        # Whatever happens, none of the parent's stack is to be unwound here.
        os._exit(1)


def _redirect(output: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(nothing)
    os.close(output)
    for name, descriptor, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        raw: Any = io.FileIO(descriptor, mode, closefd=False)
        # Unbuffered: what was printed before a crash isn't lost with it.
        buffer = raw if mode == "w" else io.BufferedReader(raw)
        stream = io.TextIOWrapper(buffer, "utf-8", "backslashreplace", write_through=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _forget_the_parent() -> None:
    import numpy as np

    sys.argv[:] = ["-c"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    # Torch's begin alike in every process.
    random.seed()
    np.random.seed()
    # What the parent made is none of this process's to collect.
    gc.freeze()
