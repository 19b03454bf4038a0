"""How a process ends in which gloo stood for NCCL.

A thread of gloo's takes Python's lock once more after its work was waited for.  If Python is being taken apart by
then, the process aborts ("terminate called without an active exception"): any that has gloo may, now and then, and
none that has NCCL would.  So such a process ends before it is taken apart.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import sys
import threading
from collections.abc import Iterator

_STANDS = threading.Event()


def gloo_stands() -> None:
    """Gloo's threads are started in this process, for NCCL's."""
    _STANDS.set()


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """The block is all that the process is for; enter it before anything is registered for the process' end.

    If gloo stood for NCCL in it, the process ends as it would have, with the same exit code, after all that is
    registered for its end and with every open file written out; but not interrupted, and ``__del__`` isn't called for
    what is left.
    """
    codes: list[int] = []
    atexit.register(_end, codes)  # the first of all, so the last that is called
    try:
        yield
    except SystemExit as asked:
        codes.append(_exit_code(asked.code))
        raise
    except Exception:
        codes.append(1)
        raise
    codes.append(0)


def _exit_code(code: object) -> int:
    """The exit code that Python makes of that of a ``SystemExit``."""
    if code is None:
        return 0
    return code & 0xFF if isinstance(code, int) else 1


def _end(codes: list[int]) -> None:
    if not _STANDS.is_set() or not codes:
        return
    gc.collect()
    # By its type: what an object says that it is may be code of its own. What is text lies upon what is bytes.
    files = [thing for thing in gc.get_objects() if issubclass(type(thing), io.TextIOBase | io.BufferedIOBase)]
    for file in sorted(files, key=lambda file: not isinstance(file, io.TextIOBase)):
        with contextlib.suppress(Exception):
            if not file.closed and file.writable():
                file.flush()
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except (OSError, ValueError):
        return  # which Python has an exit code for
    os._exit(codes[0])
