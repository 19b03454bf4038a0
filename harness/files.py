"""Files that are whole or absent: written beside their place and moved there."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` in one move; a reader, or a kill, never meets a part of it.

    Raises:
        OSError: the folder can't be made or written.
    """
    with move_into_place(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def move_into_place(path: Path) -> Iterator[Path]:
    """Give a file beside ``path`` to write, and move it there at the end; an exception leaves ``path`` as it was.

    Raises:
        OSError: the folder can't be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    try:
        yield Path(name)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
