"""A subject as it was when loaded: a process forked then, which forks a child for each question about it."""

from __future__ import annotations

import contextlib
import enum
import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import torch

from harness.engine.result import Call
from harness.properties.verdict import Verdict

Judge = Callable[[Sequence[Call]], Verdict]
ShowEvidence = Callable[[Sequence[Call], bool], Mapping[str, Any] | None]

_Answering = Callable[[Sequence[Call]], Any]

# Beyond what the child is given to answer: for forking and killing it.
_SPARE_SECONDS = 5.0


class _Question(enum.Enum):
    VERDICT = enum.auto()
    EVIDENCE = enum.auto()
    BRIEF_EVIDENCE = enum.auto()


class Pristine:
    """The asking side. What was forked ends with this process, or with :meth:`close`."""

    def __init__(self, connection: Connection, process: int) -> None:
        self._connection, self._process = connection, process

    def verdict(self, calls: Sequence[Call], seconds: float) -> Verdict | None:
        """The verdict on the last of these calls, made one after the other on a subject as it was when loaded.

        ``None`` where there is none: the calls took longer than ``seconds``, or the child ended or broke.
        """
        answer = self._asked(calls, seconds, _Question.VERDICT)
        return answer if isinstance(answer, Verdict) else None

    def evidence(self, calls: Sequence[Call], seconds: float, brief: bool = False) -> Mapping[str, Any] | None:
        """Likewise, what a report can show of the last of them; with ``brief``, what needs no other cases."""
        answer = self._asked(calls, seconds, _Question.BRIEF_EVIDENCE if brief else _Question.EVIDENCE)
        return answer if isinstance(answer, Mapping) else None

    def _asked(self, calls: Sequence[Call], seconds: float, question: _Question) -> Any:
        with contextlib.suppress(OSError, EOFError):
            self._connection.send((tuple(calls), seconds, question))
            if self._connection.poll(seconds + _SPARE_SECONDS):
                return self._connection.recv()
            self.close()
        return None

    def close(self) -> None:
        self._connection.close()
        _end(self._process)


def fork_pristine(
    judge: Judge,
    show_evidence: ShowEvidence,
    closing: Sequence[Connection] = (),
    prepare: Callable[[], None] = lambda: None,
) -> Pristine | None:
    """Fork it, from a process with one thread; ``None`` where the system can't.

    Args:
        judge, show_evidence: run in a child, on the state that it has now.
        closing: connections of this process that the fork must not keep open.
        prepare: done in the fork, once, when it is first asked: what each child would have to do else.
    """
    if not hasattr(os, "fork"):
        return None
    ours, theirs = multiprocessing.Pipe()
    process = os.fork()
    if process == 0:
        try:
            for connection in (*closing, ours):
                connection.close()
            _serve(theirs, judge, show_evidence, prepare)
        finally:
            os._exit(0)
    theirs.close()
    return Pristine(ours, process)


def _serve(connection: Connection, judge: Judge, show_evidence: ShowEvidence, prepare: Callable[[], None]) -> None:
    prepared = False
    with contextlib.suppress(EOFError, OSError):
        while True:
            calls, seconds, question = connection.recv()
            if not prepared:
                prepare()
                prepared = True
            answering: _Answering = judge
            if question is not _Question.VERDICT:
                answering = partial(_evidence, show_evidence, question is _Question.BRIEF_EVIDENCE)
            connection.send(_answered(calls, seconds, answering, connection))


def _evidence(show_evidence: ShowEvidence, brief: bool, calls: Sequence[Call]) -> Mapping[str, Any] | None:
    return show_evidence(calls, brief)


def _answered(calls: Sequence[Call], seconds: float, answering: _Answering, connection: Connection) -> Any:
    reading, writing = multiprocessing.Pipe(duplex=False)
    child = os.fork()
    if child == 0:
        reading.close()
        connection.close()
        _answer(calls, answering, writing)
    writing.close()
    answer = None
    with contextlib.suppress(EOFError, OSError):
        if reading.poll(seconds):
            answer = reading.recv()
    reading.close()
    _end(child)
    return answer


def _answer(calls: Sequence[Call], answering: _Answering, writing: Connection) -> NoReturn:
    try:
        # Else every child would draw the same global random numbers, and what hangs on them would look repeatable.
        random.seed()
        torch.seed()
        writing.send(answering(calls))
    finally:
        # No traceback: no answer says it.
        os._exit(0)


def _end(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process, 0)
