"""Whether a process that trains may be forked, so that each fork goes on as the process itself would have."""

from __future__ import annotations

import fcntl
import os
import stat
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

import torch

_OWN = Path("/proc/self")
_HARMLESS_DEVICES = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}


def why_not_fork(besides: Collection[int] = (), cuda_is_real: bool = True) -> str:
    """Why a fork of this process would not be as the process itself, in a few words; empty where it would.

    A fork has one thread, none of its parent's children, and shares with it connections, devices and memory that is
    mapped as shared.

    Args:
        besides: open files that are not looked at.
        cuda_is_real: and not pretended.
    """
    if not sys.platform.startswith("linux") or not (_OWN / "task").is_dir():
        return "a process is forked on Linux alone"
    if cuda_is_real and torch.cuda.is_initialized():
        return "the script uses a GPU"
    if _has_children():
        return "the script has child processes, as loader workers are"
    if threading.active_count() > 1:
        return "the script has more than one thread"
    if len(list((_OWN / "task").iterdir())) > 1:
        return "torch or another library runs threads, and with OMP_NUM_THREADS=1 may run none"
    if _shares_memory():
        return "the script has memory that is shared with its forks"
    return next((why for number in _open_files() if number not in besides and (why := _why_not_share(number))), "")


class Offsets:
    """Where each file that is open for reading alone is read next, as of now: forks share that with their parent."""

    def __init__(self) -> None:
        self._offsets = {number: os.lseek(number, 0, os.SEEK_CUR) for number in _open_files() if _is_only_read(number)}

    def restore(self) -> None:
        """As it was."""
        for number, offset in self._offsets.items():
            os.lseek(number, offset, os.SEEK_SET)


def _has_children() -> bool:
    # Looks, and leaves to the script whatever has ended.
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _shares_memory() -> bool:
    """Some memory is mapped as shared, and may be written to."""
    for line in (_OWN / "maps").read_text(encoding="utf-8", errors="replace").splitlines():
        allowed = line.split(maxsplit=2)[1]
        if "w" in allowed and allowed.endswith("s"):
            return True
    return False


def _open_files() -> Iterator[int]:
    for name in os.listdir(_OWN / "fd"):
        with suppress(OSError):  # what listed them
            os.fstat(int(name))
            yield int(name)


def _is_only_read(number: int) -> bool:
    writes = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    return stat.S_ISREG(os.fstat(number).st_mode) and not writes


def _why_not_share(number: int) -> str:
    """Files that are read or written are shared without harm; what is both read and written may be a database."""
    mode = os.fstat(number).st_mode
    if stat.S_ISREG(mode):
        both = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
        return "the script has a file open for both reading and writing" if both else ""
    if stat.S_ISDIR(mode) or os.readlink(_OWN / "fd" / str(number)) in _HARMLESS_DEVICES:
        return ""
    return "the script has a connection, a pipe or a device open"
