"""Small text files, read within limits: scenes' cameras, lists and configurations."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def one_line(text: str, limit: int = 300) -> str:
    """`text` fit to stand in a message: without line breaks and control characters, cut to `limit` characters."""
    clean = "".join(c if c.isprintable() else " " for c in text[:limit])
    return " ".join(clean.split()) + (" …" if len(text) > limit else "")


def read_text(path: Path, error: type[ValueError], limit: int) -> str:
    """The text of a regular file of at most `limit` bytes of UTF-8.

    Raises `error`, naming the file, for one that is missing, something else (a folder, a pipe, a device), too
    large, no UTF-8 text, or cannot be read.
    """
    name = one_line(str(path))
    try:
        # Without O_NONBLOCK, opening a pipe waits for whoever writes into it.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise error(f"{name}: cannot be read: no regular file")
            data = file.read(limit + 1)
    except OSError as failure:
        raise error(f"{name}: cannot be read: {failure.strerror}") from None
    if len(data) > limit:
        raise error(f"{name}: has more than {limit} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise error(f"{name}: not UTF-8 text") from None


def is_file(path: Path) -> bool:
    """Whether `path` is a regular file; False, too, where it has a name that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
