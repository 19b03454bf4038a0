"""A worker seen from the pool: started, told, listened to, watched and killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import NoReturn

from harness.cases.descriptors import Case
from harness.engine.forked import ForkedProcess, fork
from harness.engine.guardian import Guardian, kill_group
from harness.engine.messages import Loading, Message, Order, Ready, Start
from harness.engine.plan import Task
from harness.engine.pulse import Beat, Pulse
from harness.engine.subject_output import SubjectOutput
from harness.errors import ending
from harness.kinds.registry import kinds_with

# What a worker needs that is not the subject's: importing torch, drawing cases, confirming.
_OWN_SECONDS = 300.0
_LAST_WORDS_SECONDS = 0.5


class WorkerProcess:
    """One process and the pipe to it.

    Attributes:
        loaded: the subjects are.
        loading: what it is importing, or ``None``.
        output: what its subject prints.

    Args:
        forked_beside: the others, where it is to be a fork of this process; ``None``: a new interpreter.
    """

    def __init__(self, start: Start, guardian: Guardian, forked_beside: Sequence[WorkerProcess] | None = None) -> None:
        self.loaded = False
        self.loading: str | None = None
        self._guardian, self._case_seconds = guardian, start.settings.case_timeout
        self._since = time.monotonic()
        self._end: str | None = None
        self._pending: deque[Message] = deque()
        self.output, self._pulse = SubjectOutput(), Pulse()
        self._last: Beat | None = None
        self.connection, theirs = multiprocessing.Pipe()
        self._process = self._spawned(theirs) if forked_beside is None else self._forked(theirs, forked_beside)
        guardian.watch(self._process.pid)
        theirs.close()
        self.output.handed_over()
        with contextlib.suppress(OSError):
            self.connection.send(start)

    def _spawned(self, theirs: Connection) -> subprocess.Popen[bytes]:
        pipe, pulse = theirs.fileno(), self._pulse.descriptor
        code = f"import sys; sys.path[:] = {sys.path!r}; from harness.engine.worker import main; main({pipe}, {pulse})"
        return subprocess.Popen(
            # Unbuffered: what was printed before a crash isn't lost with it.
            [sys.executable, "-u", "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=self.output.writing,
            stderr=self.output.writing,
            pass_fds=(pipe, pulse),
            start_new_session=True,
        )

    def _forked(self, theirs: Connection, beside: Sequence[WorkerProcess]) -> ForkedProcess:
        def let_go() -> None:
            # While a worker has one of these open, its other end never learns that this process is gone.
            self._guardian.let_go()
            for worker in (self, *beside):
                worker.connection.close()
                worker.output.close()
            for worker in beside:
                worker._pulse.close()

        def run() -> NoReturn:
            main(theirs.fileno(), self._pulse.descriptor)

        from harness.engine.worker import main

        return fork(run, self.output.writing, let_go)

    @property
    def process(self) -> int:
        return self._process.pid

    @property
    def beat(self) -> Beat:
        """The case that it is at, or was when it was killed."""
        return self._pulse.read() if self._last is None else self._last

    def tell(self, order: Order | None) -> None:
        """Give it an order, or let it leave."""
        self._since = time.monotonic()
        self.output.forget()
        # A worker that is gone shows in :meth:`ended`.
        with contextlib.suppress(OSError):
            self.connection.send(order)

    def messages(self) -> Iterator[Message]:
        """What it has said since, without waiting."""
        try:
            while self.connection.poll():
                message: Message = self.connection.recv()
                self._note(message)
                yield message
        except (EOFError, OSError):
            self._end = self._end or ""
        except Exception:
            # The subject wrote into the pipe.
            self._end = "writes into its connection to the harness"

    def _note(self, message: Message) -> None:
        self._since = time.monotonic()
        if isinstance(message, Loading):
            self.loading, self._since = message.spec, message.at
        elif isinstance(message, Ready):
            self.loaded, self.loading = True, None

    def ended(self) -> str | None:
        """How it ended, as a verdict says it, or ``None`` while it lives."""
        code = self._process.poll()
        if code is not None:
            return self._end or ending(code)
        if self._end is None:
            return None
        # The pipe closes a moment before the process is gone.
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._end or ending(self._process.wait(timeout=_LAST_WORDS_SECONDS))
        return self._end or ending(None)

    def overdue(self) -> str | None:
        """That what it is at takes too long, as a verdict says it, or ``None``."""
        now, pulse = time.monotonic(), self._pulse.last_at()
        since = max(self._since, pulse)
        limit = self._case_seconds if self.loading is not None else max(_OWN_SECONDS, self._case_seconds)
        # No case has less time than that, and to look which it is takes some.
        if pulse and now - pulse > self._case_seconds:
            beat = self.beat
            if beat.task is not None and beat.case is not None:
                since, limit = beat.at, _limit(beat.task, beat.case, self._case_seconds)
        return f"still running after {limit:g} s" if now - since > limit else None

    def end(self) -> None:
        """End it and whatever it started, at once; what it said before can still be heard."""
        kill_group(self._process.pid)
        self._process.kill()
        # A process that hangs in the kernel is not waited for.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1.0)

    def kill(self) -> None:
        """End it, and let go of it."""
        self.end()
        self._guardian.forget(self._process.pid)
        self.connection.close()
        self.output.close()
        if self._last is None:
            self._last = self._pulse.read()
            self._pulse.close()

    def wait_for_last_words(self) -> None:
        """Give it a moment to leave, once it was told to."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_LAST_WORDS_SECONDS)


def _limit(task: Task, case: Case, seconds: float) -> float:
    """How long a case may take."""
    # A file that was written by hand may ask what no kind claims of such a case; the worker refuses it.
    kind = next((kind for kind in kinds_with(task.kind, task.property) if isinstance(case, kind.cases)), None)
    return seconds if kind is None else kind.seconds(case, seconds)
