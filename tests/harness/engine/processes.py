"""The processes of a run, told by their working directory, which they all inherit."""

from __future__ import annotations

import os
import time
from pathlib import Path


def processes_in(folder: Path) -> set[int]:
    """Those that live and whose working directory is the folder; without /proc, none can be told."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            inside = Path(os.readlink(entry / "cwd")) == folder.resolve()
            dead = (entry / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            continue
        if inside and not dead:
            found.add(int(entry.name))
    return found


def wait_until_gone(folder: Path, seconds: float = 2.0) -> set[int]:
    """Those that are left after so long."""
    deadline = time.monotonic() + seconds
    while (left := processes_in(folder)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left
