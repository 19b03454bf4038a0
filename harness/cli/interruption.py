"""SIGINT and SIGTERM end a command alike: at once, once, and with the code that a shell expects."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from harness.errors import Interrupted

# For killing workers, writing the report and leaving; a library that swallowed the exception has no say in it.
_LAST_SECONDS = 1.5


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise :class:`harness.errors.Interrupted` in the block on the first of these signals; ignore further ones.

    Only the main thread can be interrupted so; in another the block runs as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: FrameType | None) -> None:
        for further in (signal.SIGINT, signal.SIGTERM):
            signal.signal(further, signal.SIG_IGN)
        if _is_importing(frame):
            # Python's own and torch's C++ take no exception there; and nothing has begun that is to be ended.
            _end(Interrupted(signum).exit_code)
        # Not a threading.Thread: the main thread may hold a lock of that module just now.
        _thread.start_new_thread(_end_later, (Interrupted(signum).exit_code,))
        raise Interrupted(signum)

    before = {signum: signal.signal(signum, interrupt) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _end_later(exit_code: int) -> None:
    time.sleep(_LAST_SECONDS)
    _end(exit_code)


def _end(exit_code: int) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"harness: interrupted\n")
    os._exit(exit_code)
