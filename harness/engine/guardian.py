"""A process that outlives its parent by a moment: when the parent dies, by whatever signal, it kills the groups of
processes that the parent started.

This file is also what that process runs, without site-packages: it imports the standard library only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Guardian:
    """The parent's side: a pipe whose other end closes with the parent."""

    def __init__(self) -> None:
        # Isolated and without site: it is there in a few hundredths of a second.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def watch(self, group: int) -> None:
        """Kill this process group too when this process is gone."""
        self._tell(f"+{group}\n")

    def forget(self, group: int) -> None:
        """The group has been killed; its number may come to be another's."""
        self._tell(f"-{group}\n")

    def let_go(self) -> None:
        """In a fork of the parent: it isn't the parent."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def close(self) -> None:
        """End it; whatever it still watches dies."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1.0)
        self._process.kill()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        # Without the guardian, if someone killed it, workers still notice that their pipe closes.
        with contextlib.suppress(OSError):
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()


def kill_group(group: int) -> None:
    """Kill all that is left of a process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _guard() -> None:
    for ignored in _IGNORED:
        signal.signal(ignored, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin.buffer:
        change = int(line)
        (groups.add if change > 0 else groups.discard)(abs(change))
    for group in groups:
        kill_group(group)


if __name__ == "__main__":
    _guard()
