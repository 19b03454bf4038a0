"""Run a catalogue: every fault and every right implementation, at every seed, in so many processes."""

from __future__ import annotations

import contextlib
import os
import queue
import tempfile
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.engine.guardian import Guardian
from harness.engine.plan import plan
from harness.errors import HarnessError, Interrupted, SubjectError, UsageError
from harness.files import one_line
from harness.kinds.registry import property_names
from harness.oracle.levels import Level
from harness.rehearsal.places import Script as RehearsedScript
from harness.rehearsal.processes import Processes
from harness.rehearsal.rehearsal import Rehearsal, rehearse
from harness.selfcheck.catalogue import FOLDER, Catalogue, Entry, Fault, Right, Script
from harness.selfcheck.forks import Forks
from harness.selfcheck.outcomes import (
    Judged,
    NotRun,
    Outcome,
    script_attempt,
    script_judged,
    search_attempt,
    search_judged,
)
from harness.selfcheck.verdicts import Attempt, FaultResult, RightResult, Selfcheck

_TICK_SECONDS = 0.2


@dataclass(frozen=True)
class Asked:
    """How a catalogue is run.

    Attributes:
        seeds: how many, from ``first_seed`` on.
        workers: processes that share the work; 0 for one per processor.
        budget: seconds after which nothing more is started; ``None`` for no limit.
        timeout: seconds that an entry may take at one seed, before its process is ended.
        shrink: also make the case of each fault smaller, at the first seed, and tell the smallest.
    """

    seeds: int = 3
    first_seed: int = 0
    workers: int = 0
    budget: float | None = None
    timeout: float = 600.0
    shrink: bool = False


@dataclass(frozen=True)
class _Job:
    entry: Entry
    seed: int


def run_catalogue(
    catalogue: Catalogue,
    asked: Asked,
    begin: Callable[[int], None] = lambda _: None,
    done: Callable[[str], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
    interrupted: Callable[[Selfcheck], object] = lambda _: None,
    waits: Callable[[], None] = lambda: None,
) -> Selfcheck:
    """Run it; the findings are the same whatever the number of workers.

    Args:
        begin: told how many runs there are, each of one entry at one seed.
        done: told of each that is over, by its entry's name.
        say: told in words of each survivor and false alarm, as it is found.
        interrupted: told of what was found until a signal ended it, just before that is raised.
        waits: called now and then while nothing is over.

    Raises:
        HarnessError: an entry can't be loaded, doesn't fit, or has an edit that doesn't; it is named.
        HarnessFailure: the harness failed.
    """
    started = time.monotonic()
    entries: tuple[Entry, ...] = (*catalogue.faults, *catalogue.rights)
    for entry in entries:
        if isinstance(entry.subject, Script):
            with _named(entry):
                entry.subject.text()
    jobs = [_Job(entry, seed) for entry in entries for seed in _seeds(entry, asked)]
    begin(len(jobs))
    found: dict[str, dict[int, Outcome]] = defaultdict(dict)
    deadline = None if asked.budget is None else started + asked.budget

    def so_far() -> Selfcheck:
        return Selfcheck(
            [_of_fault(fault, found[fault.name], asked) for fault in catalogue.faults],
            [_of_right(right, found[right.name], asked) for right in catalogue.rights],
            asked.first_seed,
            asked.seeds,
            time.monotonic() - started,
        )

    with _Workers(jobs, asked, deadline) as workers:
        try:
            for heard in workers.outcomes():
                if heard is None:
                    waits()
                    continue
                job, outcome = heard
                found[job.entry.name][job.seed] = outcome
                for sentence in _alarming(job, outcome):
                    say(sentence)
                done(job.entry.name)
        except (Interrupted, KeyboardInterrupt):
            # Before the processes are ended, which may take what time is left.
            interrupted(so_far())
            raise
    return so_far()


def _seeds(entry: Entry, asked: Asked) -> range:
    """A rehearsal draws nothing: one does for all seeds."""
    count = 1 if isinstance(entry.subject, Script) else asked.seeds
    return range(asked.first_seed, asked.first_seed + count)


def _of_fault(fault: Fault, found: dict[int, Any], asked: Asked) -> FaultResult:
    seeds = _seeds(fault, asked)
    outcomes = [found[seed] for seed in seeds if seed in found]
    left = next((one.message for one in outcomes if isinstance(one, NotRun)), "")
    return FaultResult(fault, [one for one in outcomes if isinstance(one, Attempt)], len(seeds), left)


def _of_right(right: Right, found: dict[int, Any], asked: Asked) -> RightResult:
    seeds = _seeds(right, asked)
    judged = [found[seed] for seed in seeds if seed in found]
    return RightResult(
        right,
        len(seeds),
        len(judged),
        sum(one.judged for one in judged),
        [violation for one in judged for violation in one.violations],
        sum(one.seconds for one in judged),
        next((one.left for one in judged if one.left), ""),
    )


def _alarming(job: _Job, outcome: Outcome) -> Iterator[str]:
    name = job.entry.name
    if isinstance(outcome, Attempt):
        if not outcome.killed:
            yield f"SURVIVED {name} at seed {job.seed}: {one_line(outcome.message, 200)}"
        return
    for alarm in outcome.violations if isinstance(outcome, Judged) else ():
        if alarm.level is Level.FAULT:
            where = f"{alarm.property} under {alarm.precision}" if alarm.precision else alarm.property
            yield f"FALSE ALARM {name} at seed {job.seed}: {where}: {one_line(alarm.message, 200)}"


@contextlib.contextmanager
def _named(entry: Entry) -> Iterator[None]:
    """What is to be mended names the entry."""
    try:
        yield
    except SubjectError as error:
        raise SubjectError(f"{entry.name}: {error}") from error
    except HarnessError as error:
        raise UsageError(f"{entry.name}: {error}") from error


class _Workers:
    """Threads that take a job each, with a process that does it."""

    def __init__(self, jobs: list[_Job], asked: Asked, deadline: float | None) -> None:
        self._jobs, self._asked, self._deadline = deque(jobs), asked, deadline
        self._heard: queue.Queue[tuple[_Job, Outcome | BaseException] | None] = queue.Queue()
        self._count = min(asked.workers or os.cpu_count() or 1, len(jobs))

    def __enter__(self) -> _Workers:
        self._stack = contextlib.ExitStack()
        guardian = Guardian()
        self._stack.callback(guardian.close)
        self._stack.callback(self._jobs.clear)
        for _ in range(self._count):
            forks, processes = Forks(guardian), self._stack.enter_context(Processes())
            self._stack.callback(forks.close)
            threading.Thread(target=self._work, args=(forks, processes), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def outcomes(self) -> Iterator[tuple[_Job, Outcome] | None]:
        """As they come; ``None`` now and then while none does.

        Raises:
            HarnessError, HarnessFailure: a job can't be done.
        """
        working = self._count
        while working:
            try:
                heard = self._heard.get(timeout=_TICK_SECONDS)
            except queue.Empty:
                yield None
                continue
            if heard is None:
                working -= 1
                continue
            job, outcome = heard
            if isinstance(outcome, BaseException):
                raise outcome
            yield job, outcome

    def _work(self, forks: Forks, processes: Processes) -> None:
        while self._deadline is None or time.monotonic() < self._deadline:
            try:
                job = self._jobs.popleft()
            except IndexError:
                break
            try:
                with _named(job.entry):
                    self._heard.put((job, _done(job, self._asked, forks, processes)))
            except BaseException as error:
                self._heard.put((job, error))
                break
        self._heard.put(None)


def _done(job: _Job, asked: Asked, forks: Forks, processes: Processes) -> Outcome:
    entry, subject = job.entry, job.entry.subject
    if isinstance(subject, Script):
        rehearsal = _rehearsed(subject, asked.timeout, processes)
        return (
            script_attempt(entry, job.seed, rehearsal)
            if isinstance(entry, Fault)
            else script_judged(job.seed, rehearsal)
        )
    if isinstance(entry, Fault):
        tasks, until = [(entry.expected, entry.precision)], entry.level
        others = [name for name in property_names(subject.role) if name != entry.expected]
    else:
        tasks = [(task.property, task.precision) for task in plan((subject.role,), (), entry.precisions)]
        until, others = Level.FAULT, []
    order = {
        "role": subject.role.value,
        "subject": subject.spec.as_json(),
        "examples": subject.examples,
        "seed": job.seed,
        "tasks": tasks,
        "until": until.value,
        "others": others,
        "shrink": asked.shrink and isinstance(entry, Fault) and job.seed == asked.first_seed,
    }
    record = forks.run(order, asked.timeout)
    if record.refused is not None:
        sentence, code = record.refused
        raise SubjectError(sentence) if code == SubjectError.exit_code else UsageError(sentence)
    return search_attempt(entry, job.seed, record) if isinstance(entry, Fault) else search_judged(job.seed, record)


def _rehearsed(script: Script, seconds: float, processes: Processes) -> Rehearsal:
    with tempfile.TemporaryDirectory() as folder:
        path = script.path
        if script.edits:
            path = Path(folder) / "edited" / script.path.name
            path.parent.mkdir()
            path.write_text(script.text(), encoding="utf-8")
        own = Path(folder) / "own"
        own.mkdir()
        arguments = tuple(argument.replace(FOLDER, str(own)) for argument in script.arguments)
        rehearsed = RehearsedScript(str(path), arguments=arguments)
        return rehearse(
            rehearsed,
            script.faults,
            pretend_cuda=script.pretend_cuda,
            budget=seconds,
            processes=processes,
            ranks=script.ranks,
            resume_with=script.resume_with,
        )
