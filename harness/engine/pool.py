"""Run a plan in several processes: each takes a property at a time, with all its precisions; where the properties of a
kind of subject share their runs, a precision with all its properties.

A worker that dies, or hangs in a case, costs the task that it was at, which is violated by the case in hand; another
worker goes on.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from harness.config import Settings
from harness.engine.events import (
    CaseFailed,
    Event,
    Listener,
    ProcessLost,
    RunFinished,
    RunStarted,
    SubjectPrinted,
    TaskFinished,
)
from harness.engine.groups import Group, groups_of
from harness.engine.messages import Answer, Broken, Heard, Judge, Message, Ready, Refused, Start
from harness.engine.plan import Task
from harness.engine.result import BrokenRegression, Call, KnownCase, Status, TaskResult
from harness.engine.run import OUT_OF_TIME
from harness.engine.worker_process import WorkerProcess
from harness.engine.workers import Workers, not_loaded, running_workers
from harness.errors import HarnessFailure
from harness.oracle.levels import Level
from harness.properties.verdict import Verdict

# So many tasks in a row that end in a hang, and the rest is given up: each costs the time limit.
_MOST_HANGS = 3
_MOST_FAILED_LOADS = 3
STOPPED = "stopped at the first fault"


def run_pooled(
    started: RunStarted,
    emit: Listener,
    worker_listener: Callable[[Event], None],
    known: Mapping[Task, Sequence[KnownCase]] | None = None,
    ends_run: Callable[[TaskResult], bool] = lambda result: False,
    shows: bool = True,
    forks: bool = False,
) -> tuple[TaskResult, ...]:
    """Run all tasks and give their results in the plan's order, which workers they fell to making no difference.

    Args:
        started: the plan and its settings; the first event.
        emit: told of every event but ``CaseStarted``, in this process.
        worker_listener: told of every event, in the worker, before ``emit``; must be picklable. Of a case that takes
            its worker down it is told in this process.
        known: by task, cases that failed before the run, which are tried first.
        ends_run: asked of each result once ``emit`` has heard it; the first of which it is true is the last, and what
            is left is not run.
        shows: what a report can show of each violation is gathered and told; without, that time is saved.
        forks: workers are forked from this process where that can be done, which must have run nothing but the harness.

    Raises:
        HarnessError: what a worker raised: the subject can't be loaded, say.
        HarnessFailure: the harness failed in a worker.
    """
    settings, tasks = started.settings, started.tasks
    deadline = None if settings.max_time is None else time.monotonic() + settings.max_time
    start = Start(settings, deadline, worker_listener, shows=shows)
    count = min(settings.workers or os.cpu_count() or 1, len(tasks))
    with running_workers(start, count, emit, forks) as workers:
        # After the forks: a listener may start a thread, to move a bar.
        emit(started)
        results = _Run(start, tuple(dict.fromkeys(tasks)), emit, workers, known or {}, ends_run).results()
    ordered = tuple(results[task] for task in tasks)
    emit(RunFinished(ordered))
    return ordered


def judge_in_worker(settings: Settings, calls: Sequence[Call], listener: Callable[[Event], None]) -> Verdict:
    """The verdict on the last of these calls, made in a process of their own. What that prints goes to stderr.

    Raises:
        HarnessError, HarnessFailure: as :func:`run_pooled`.
    """
    with running_workers(Start(settings, None, listener, confirms=False), 1, _to_stderr) as workers:
        (worker,) = workers.running
        while True:
            workers.wait()
            for message in worker.messages():
                _refuse(message)
                if isinstance(message, Ready):
                    worker.tell(Judge(tuple(calls)))
                elif isinstance(message, Answer):
                    assert isinstance(message.result, Verdict)
                    return message.result
            if (why := worker.ended() or worker.overdue()) is not None:
                if not worker.loaded:
                    raise not_loaded(worker, why)
                return Verdict(False, None, float("inf"), why)


def _to_stderr(event: Event) -> None:
    if isinstance(event, SubjectPrinted):
        sys.stderr.write(event.text)
        sys.stderr.flush()


class _Run:
    """One run of a plan."""

    def __init__(
        self,
        start: Start,
        tasks: tuple[Task, ...],
        emit: Listener,
        workers: Workers,
        known: Mapping[Task, Sequence[KnownCase]],
        ends_run: Callable[[TaskResult], bool],
    ) -> None:
        self._start, self._tasks, self._emit, self._workers, self._known = start, tasks, emit, workers, known
        self._ends_run, self._ended = ends_run, False
        self._failed: dict[Task, CaseFailed] = {}
        self._waiting: deque[Group] | None = None
        self._taken: dict[WorkerProcess, Group] = {}
        self._results: dict[Task, TaskResult] = {}
        self._hangs = self._failed_loads = 0

    def results(self) -> dict[Task, TaskResult]:
        """Run until every task has its result."""
        while len(self._results) < len(self._tasks):
            self._workers.wait()
            for worker in list(self._workers.running):
                for message in worker.messages():
                    self._hear(worker, message)
                if (how := worker.ended()) is not None:
                    self._lost(worker, how, hung=False)
                elif (how := worker.overdue()) is not None:
                    self._lost(worker, how, hung=True)
            if self._ended:
                self._stop()
        return self._results

    def _stop(self) -> None:
        """End all workers. What they had finished by then counts; a case of theirs that failed is on record."""
        for worker in self._workers.running:
            worker.end()
        for worker in list(self._workers.running):
            for message in worker.messages():
                self._hear(worker, message)
            self._workers.remove(worker)
            self._tell_lost(ProcessLost(worker.process))
        for group in (*self._taken.values(), *(self._waiting or ())):
            for task in list(group.tasks):
                failed = self._failed.get(task)
                aside = "" if failed is None else f", with a case that fails already on record: {failed.message}"
                self._finish(group, TaskResult(task, Status.NOT_RUN, message=STOPPED + aside))

    def _tell_lost(self, lost: ProcessLost) -> None:
        for tell in (self._start.listener, self._emit):
            tell(lost)

    def _hear(self, worker: WorkerProcess, message: Message) -> None:
        _refuse(message)
        if isinstance(message, Heard):
            if isinstance(message.event, CaseFailed):
                self._failed[message.event.task] = message.event
            self._emit(message.event)
        elif isinstance(message, Ready):
            if self._waiting is None:
                self._waiting = deque(Group(deque(group)) for group in groups_of(self._tasks, message.kinds))
            self._failed_loads = 0
            self._next(worker)
        elif isinstance(message, Answer):
            assert isinstance(message.result, TaskResult)
            self._finished(worker, message.result)

    def _finished(self, worker: WorkerProcess, result: TaskResult) -> None:
        group = self._taken[worker]
        group.tasks.popleft()
        self._results[result.task] = result
        self._ended = self._ended or self._ends_run(result)
        if result.status in (Status.HELD, Status.VIOLATED):
            group.hangs = self._hangs = 0
        if result.status is Status.VIOLATED and result.case is not None:
            badness = result.badness if result.level is Level.FAULT else 0.0
            group.remember(result.task, result.case, badness)
            # Where a value is infinite, the case may be a large one, and leads to no small one elsewhere.
            if result.worst_case is not None and math.isfinite(badness):
                group.remember(result.task, result.worst_case)
        self._next(worker)

    def _next(self, worker: WorkerProcess) -> None:
        """Give the worker its group's next task, or another group's first."""
        if self._ended:
            return
        group = self._taken.pop(worker, None)
        if group is None or not group.tasks:
            group = self._waiting.popleft() if self._waiting else None
        if group is not None:
            self._taken[worker] = group
            worker.tell(group.order(self._known))

    def _lost(self, worker: WorkerProcess, how: str, hung: bool) -> None:
        """The worker is gone, or is to go: its task is decided, and another worker takes the group on."""
        group = self._taken.pop(worker, None)
        self._workers.remove(worker)
        if self._waiting is None:
            raise not_loaded(worker, how)
        lost = ProcessLost(worker.process, group.tasks[0] if group is not None else None, worker.output.last_lines())
        if group is not None:
            self._decide(worker, group, how, hung)
            if group.tasks:
                self._waiting.appendleft(group)
        self._tell_lost(lost)
        if not self._ended:
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

    def _decide(self, worker: WorkerProcess, group: Group, how: str, hung: bool) -> None:
        task = group.tasks[0]
        beat = worker.beat
        if beat.case is None:
            self._finish(group, TaskResult(task, Status.NOT_RUN, message=f"between two cases its process {how}"))
        else:
            case = beat.case
            failed = CaseFailed(task, case, how, shrunk=True)
            self._start.listener(failed)
            self._emit(failed)
            kept = (one.regression for one in self._known.get(task, ()) if one.regression and one.case == case)
            broken = tuple(BrokenRegression(file, how, Level.FAULT) for file in kept)
            result = TaskResult(task, Status.VIOLATED, beat.begun, message=how, case=case, level=Level.FAULT)
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

    def _give_up(self, group: Group, why: str) -> None:
        while group.tasks:
            self._finish(group, TaskResult(group.tasks[0], Status.NOT_RUN, message=why))

    def _finish(self, group: Group, result: TaskResult) -> None:
        group.tasks.popleft()
        self._results[result.task] = result
        self._emit(TaskFinished(result.task, result))
        self._ended = self._ended or self._ends_run(result)


def _refuse(message: Message) -> None:
    if isinstance(message, Refused):
        raise message.error
    if isinstance(message, Broken):
        raise HarnessFailure(f"in a worker:\n{message.traceback}")
