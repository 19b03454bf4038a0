"""How the processes of a training's ranks come to be: forked from one that has loaded it and run nothing, or new."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Sequence
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any, Protocol

Serve = Callable[[int, Connection, str], None]
"""A rank's whole life: its number, the pipe to who asks, and the file where the ranks meet."""


class RankProcess(Protocol):
    """What of :class:`multiprocessing.Process` is asked of one."""

    @property
    def exitcode(self) -> int | None:
        """Negative for a signal; ``None`` while it runs, or where it isn't known."""

    def kill(self) -> None:
        """At once."""

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""


class Starter(Protocol):
    """Starts ranks."""

    def start(self, rank: int, store: str) -> tuple[RankProcess, Connection]:
        """A process that serves the pipe."""

    def close(self) -> None:
        """No more are started."""


class NewProcesses:
    """Each imports torch, or is forked from one that did and loads the subject; where this process may have threads."""

    def __init__(self, serve: Serve) -> None:
        """``serve`` must be picklable."""
        self._serve = serve

    def start(self, rank: int, store: str) -> tuple[RankProcess, Connection]:
        context = _context()
        ours, theirs = context.Pipe()
        process = context.Process(target=self._serve, args=(rank, theirs, store), daemon=True)
        process.start()
        theirs.close()
        return process, ours

    def close(self) -> None:
        pass


def _context() -> Any:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["harness.trials.rank_imports"])
    return context


class ForkedAhead:
    """Forks a process at once, from this one, which is to have one thread and nothing of a GPU; that one forks the
    ranks. It ends with this process.

    Args:
        closing: connections of this process that the other must not keep open.
    """

    def __init__(self, serve: Serve, closing: Sequence[Connection] = ()) -> None:
        self._connection, theirs = multiprocessing.Pipe()
        self._process = os.fork()
        if self._process == 0:
            try:
                for connection in (*closing, self._connection):
                    connection.close()
                _fork_ranks(theirs, serve)
            finally:
                os._exit(0)
        theirs.close()

    def start(self, rank: int, store: str) -> tuple[RankProcess, Connection]:
        ours, theirs = multiprocessing.Pipe()
        self._connection.send((rank, store))
        reduction.send_handle(self._connection, theirs.fileno(), self._process)
        process: int = self._connection.recv()
        theirs.close()
        return _Forked(process, self._connection), ours

    def close(self) -> None:
        self._connection.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._process, 0)


class _Forked:
    """A grandchild: its parent waits for it, asked to."""

    def __init__(self, process: int, parent: Connection) -> None:
        self._process, self._parent = process, parent
        self.exitcode: int | None = None

    def kill(self) -> None:
        if self.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process, signal.SIGKILL)

    def join(self, timeout: float | None = None) -> None:
        """Its pipe has closed, or it was killed: that it ends is a matter of moments, whatever the timeout."""
        if self.exitcode is None:
            with contextlib.suppress(OSError, EOFError):
                self._parent.send(self._process)
                self.exitcode = self._parent.recv()


def _fork_ranks(connection: Connection, serve: Serve) -> None:
    with contextlib.suppress(OSError, EOFError):
        while True:
            asked = connection.recv()
            if isinstance(asked, int):
                connection.send(os.waitstatus_to_exitcode(os.waitpid(asked, 0)[1]))
                continue
            rank, store = asked
            handle = reduction.recv_handle(connection)
            process = os.fork()
            if process == 0:
                code = 1
                try:
                    connection.close()
                    _seed_anew()
                    serve(rank, Connection(handle), store)
                    code = 0
                finally:
                    os._exit(code)
            os.close(handle)
            connection.send(process)


def _seed_anew() -> None:
    import numpy as np

    # Torch's begin alike in every process, these in none.
    random.seed()
    np.random.seed()
