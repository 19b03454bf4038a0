"""Run a plan in several processes: each takes a property at a time, with all its precisions; where the properties of a
kind of subject share their runs, a precision with all its properties.

A worker that dies, or hangs in a case, costs the task that it was at, which is violated by the case in hand; another
worker goes on.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait

from harness.cases.descriptors import Case
from harness.config import Settings
from harness.engine.events import CaseFailed, Event, Listener, ProcessLost, RunFinished, RunStarted, TaskFinished
from harness.engine.guardian import Guardian, kill_group
from harness.engine.messages import Answer, Broken, Check, Heard, Judge, Message, Ready, Refused, Start
from harness.engine.plan import Task
from harness.engine.result import BrokenRegression, Call, KnownCase, Status, TaskResult
from harness.engine.run import OUT_OF_TIME
from harness.engine.worker_process import WorkerProcess
from harness.errors import HarnessFailure, SubjectError
from harness.kinds.registry import kind_for
from harness.oracle.levels import Level
from harness.properties.verdict import Verdict
from harness.subject_spec import SubjectKind

_TICK_SECONDS = 0.1
# So many tasks in a row that end in a hang, and the rest is given up: each costs the time limit.
_MOST_HANGS = 3
_MOST_FAILED_LOADS = 3


@dataclass
class _Group:
    """Tasks that one process runs in a row.

    Attributes:
        found: by kind and property, the cases that violated it, which are tried first under the next precision.
        hangs: how many tasks in a row ended in a hang.
    """

    tasks: deque[Task]
    found: dict[tuple[SubjectKind, str], list[Case]] = field(default_factory=dict)
    hangs: int = 0

    def order(self, known: Mapping[Task, Sequence[KnownCase]]) -> Check:
        task = self.tasks[0]
        return Check(task, tuple(self.found.get((task.kind, task.property), ())), tuple(known.get(task, ())))

    def remember(self, task: Task, case: Case) -> None:
        known = self.found.setdefault((task.kind, task.property), [])
        if case not in known:
            known.append(case)


def run_pooled(
    started: RunStarted,
    emit: Listener,
    worker_listener: Callable[[Event], None],
    known: Mapping[Task, Sequence[KnownCase]] | None = None,
) -> tuple[TaskResult, ...]:
    """Run all tasks and give their results in the plan's order, which workers they fell to making no difference.

    Args:
        started: the plan and its settings; the first event.
        emit: told of every event but ``CaseStarted``, in this process.
        worker_listener: told of every event, in the worker, before ``emit``; must be picklable. Of a case that takes
            its worker down it is told in this process.
        known: by task, cases that failed before the run, which are tried first.

    Raises:
        HarnessError: what a worker raised: the subject can't be loaded, say.
        HarnessFailure: the harness failed in a worker.
    """
    settings, tasks = started.settings, started.tasks
    deadline = None if settings.max_time is None else time.monotonic() + settings.max_time
    start = Start(settings, deadline, worker_listener)
    emit(started)
    with _workers(start, min(settings.workers or os.cpu_count() or 1, len(tasks))) as workers:
        results = _Run(start, tuple(dict.fromkeys(tasks)), emit, workers, known or {}).results()
    ordered = tuple(results[task] for task in tasks)
    emit(RunFinished(ordered))
    return ordered


def judge_in_worker(settings: Settings, calls: Sequence[Call], listener: Callable[[Event], None]) -> Verdict:
    """The verdict on the last of these calls, made in a process of their own.

    Raises:
        HarnessError, HarnessFailure: as :func:`run_pooled`.
    """
    with _workers(Start(settings, None, listener, confirms=False), 1) as workers:
        (worker,) = workers.running
        while True:
            wait([worker.connection], _TICK_SECONDS)
            for message in worker.messages():
                _refuse(message)
                if isinstance(message, Ready):
                    worker.tell(Judge(tuple(calls)))
                elif isinstance(message, Answer):
                    assert isinstance(message.result, Verdict)
                    return message.result
            if (why := worker.ended() or worker.overdue()) is not None:
                if not worker.loaded:
                    raise _not_loaded(worker, why)
                return Verdict(False, None, float("inf"), why)


class _Workers:
    """Those that run. All are killed at the end, with whatever their subjects started."""

    def __init__(self, start: Start, guardian: Guardian) -> None:
        self._start, self._guardian = start, guardian
        self.running: list[WorkerProcess] = []

    def add(self) -> WorkerProcess:
        worker = WorkerProcess(self._start, self._guardian)
        self.running.append(worker)
        return worker

    def remove(self, worker: WorkerProcess) -> None:
        worker.kill()
        self.running.remove(worker)


@contextlib.contextmanager
def _workers(start: Start, count: int) -> Iterator[_Workers]:
    guardian = Guardian()
    workers = _Workers(start, guardian)
    try:
        for _ in range(count):
            workers.add()
        yield workers
        for worker in workers.running:
            worker.tell(None)
        for worker in workers.running:
            worker.wait_for_last_words()
    finally:
        for worker in workers.running:
            kill_group(worker.process)
        for worker in workers.running:
            worker.kill()
        guardian.close()


class _Run:
    """One run of a plan."""

    def __init__(
        self,
        start: Start,
        tasks: tuple[Task, ...],
        emit: Listener,
        workers: _Workers,
        known: Mapping[Task, Sequence[KnownCase]],
    ) -> None:
        self._start, self._tasks, self._emit, self._workers, self._known = start, tasks, emit, workers, known
        self._waiting: deque[_Group] | None = None
        self._taken: dict[WorkerProcess, _Group] = {}
        self._results: dict[Task, TaskResult] = {}
        self._hangs = self._failed_loads = 0

    def results(self) -> dict[Task, TaskResult]:
        """Run until every task has its result."""
        while not self._results.keys() >= set(self._tasks):
            wait([worker.connection for worker in self._workers.running], _TICK_SECONDS)
            for worker in list(self._workers.running):
                for message in worker.messages():
                    self._hear(worker, message)
                if (how := worker.ended()) is not None:
                    self._lost(worker, how, hung=False)
                elif (how := worker.overdue()) is not None:
                    self._lost(worker, how, hung=True)
        return self._results

    def _hear(self, worker: WorkerProcess, message: Message) -> None:
        _refuse(message)
        if isinstance(message, Heard):
            self._emit(message.event)
        elif isinstance(message, Ready):
            if self._waiting is None:
                self._waiting = deque(_Group(deque(group)) for group in _groups(self._tasks, message.kinds))
            self._failed_loads = 0
            self._next(worker)
        elif isinstance(message, Answer):
            assert isinstance(message.result, TaskResult)
            self._finished(worker, message.result)

    def _finished(self, worker: WorkerProcess, result: TaskResult) -> None:
        group = self._taken[worker]
        group.tasks.popleft()
        self._results[result.task] = result
        if result.status in (Status.HELD, Status.VIOLATED):
            group.hangs = self._hangs = 0
        if result.status is Status.VIOLATED and result.case is not None:
            group.remember(result.task, result.case)
            if result.worst_case is not None:
                group.remember(result.task, result.worst_case)
        self._next(worker)

    def _next(self, worker: WorkerProcess) -> None:
        """Give the worker its group's next task, or another group's first."""
        group = self._taken.pop(worker, None)
        if group is None or not group.tasks:
            group = self._waiting.popleft() if self._waiting else None
        if group is not None:
            self._taken[worker] = group
            worker.tell(group.order(self._known))

    def _lost(self, worker: WorkerProcess, how: str, hung: bool) -> None:
        """The worker is gone, or is to go: its task is decided, and another worker takes the group on."""
        self._workers.remove(worker)
        if self._waiting is None:
            raise _not_loaded(worker, how)
        group = self._taken.pop(worker, None)
        if group is not None:
            self._decide(worker, group, how, hung)
            if group.tasks:
                self._waiting.appendleft(group)
        for tell in (self._start.listener, self._emit):
            tell(ProcessLost(worker.process))
        self._replace(worker, how)

    def _replace(self, worker: WorkerProcess, how: str) -> None:
        """Have one that is idle take what waits, or start another; give up where none can load the subject any more."""
        for idle in self._workers.running:
            if idle.loaded and idle not in self._taken:
                self._next(idle)
        if not worker.loaded:
            self._failed_loads += 1
            if self._workers.running:
                # The others go on alone.
                return
            if self._failed_loads >= _MOST_FAILED_LOADS:
                self._give_up_waiting(f"the subject could be loaded once, but then loading it {how}")
        if self._start.deadline is not None and time.monotonic() > self._start.deadline:
            self._give_up_waiting(OUT_OF_TIME)
        if self._waiting:
            self._workers.add()

    def _decide(self, worker: WorkerProcess, group: _Group, how: str, hung: bool) -> None:
        task = group.tasks[0]
        if worker.at is None:
            self._finish(group, TaskResult(task, Status.NOT_RUN, message=f"between two cases its process {how}"))
        else:
            case = worker.at.case
            failed = CaseFailed(task, case, how, shrunk=True)
            self._start.listener(failed)
            self._emit(failed)
            kept = (one.regression for one in self._known.get(task, ()) if one.regression and one.case == case)
            broken = tuple(BrokenRegression(file, how, Level.FAULT) for file in kept)
            result = TaskResult(task, Status.VIOLATED, worker.begun, message=how, case=case, level=Level.FAULT)
            self._finish(group, replace(result, broken_regressions=broken))
            if not hung:
                group.remember(task, case)
        if not hung:
            return
        group.hangs += 1
        self._hangs += 1
        if max(group.hangs, self._hangs) >= _MOST_HANGS:
            why = f"{_MOST_HANGS} properties and precisions in a row each ended in a case that was {how}"
            self._give_up(group, why)
            if self._hangs >= _MOST_HANGS:
                self._give_up_waiting(why)

    def _give_up_waiting(self, why: str) -> None:
        while self._waiting:
            self._give_up(self._waiting.popleft(), why)

    def _give_up(self, group: _Group, why: str) -> None:
        while group.tasks:
            self._finish(group, TaskResult(group.tasks[0], Status.NOT_RUN, message=why))

    def _finish(self, group: _Group, result: TaskResult) -> None:
        group.tasks.popleft()
        self._results[result.task] = result
        self._emit(TaskFinished(result.task, result))


def _refuse(message: Message) -> None:
    if isinstance(message, Refused):
        raise message.error
    if isinstance(message, Broken):
        raise HarnessFailure(f"in a worker:\n{message.traceback}")


def _not_loaded(worker: WorkerProcess, how: str) -> SubjectError:
    if worker.loading is None:
        raise HarnessFailure(f"a worker process was lost before it came to load the subject: it {how}")
    if how.startswith("still"):
        return SubjectError(f"loading {worker.loading} is {how}; give it longer with --case-timeout.")
    return SubjectError(f"loading {worker.loading} {how}.")


def _groups(tasks: Sequence[Task], kinds: Sequence[str]) -> list[tuple[Task, ...]]:
    """What one process runs in a row; the longest first. ``kinds`` are those of the subjects."""

    def shared(task: Task) -> bool:
        return kind_for(task.kind, task.property, kinds).shares_runs

    def key(task: Task) -> tuple[str, str]:
        return task.kind.value, task.precision if shared(task) else task.property

    groups: dict[tuple[str, str], list[Task]] = {}
    for task in sorted(tasks, key=lambda task: not shared(task)):
        groups.setdefault(key(task), []).append(task)
    return [tuple(group) for group in groups.values()]
