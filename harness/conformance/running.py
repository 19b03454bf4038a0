"""Run the table: each subject in processes of its own, every property under every precision."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.cases.serialization import case_from_json
from harness.config import settings_for
from harness.conformance.presence import absence, import_failure, versions
from harness.conformance.table import Cell, Expected, Found, Listed, State, Table, alarms, expected_of
from harness.engine.guardian import Guardian
from harness.engine.plan import Task, plan
from harness.engine.result import Status
from harness.errors import UsageError, unknown_name
from harness.findings.case_file import CaseFile
from harness.kinds.registry import describe, property_names
from harness.oracle.levels import Level
from harness.precision import precisions_named
from harness.selfcheck.forks import Forks, Record
from harness.subject_spec import SubjectKind

OUT_OF_TIME = "out of time"


@dataclass(frozen=True)
class Asked:
    """How the table is made.

    Attributes:
        cases: the folder that holds a folder of case files for each subject.
        examples: for each property under a precision.
        workers: subjects that are run at a time.
        timeout: seconds that a subject may take in all; what is left then is not run.
        properties, precisions: names to keep; empty keeps all.
        strict: every violation is to be expected, not faults alone.
    """

    cases: Path
    examples: int = 10
    seed: int = 0
    workers: int = 1
    timeout: float = 3600.0
    properties: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    strict: bool = False


def run_table(
    listed: Sequence[Listed],
    expected: Sequence[Expected],
    asked: Asked,
    done: Callable[[str], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> Table:
    """Run all of them; what is found is the same whatever the number of workers.

    Args:
        done: told of each subject that is over, by its name.
        say: told in words of each violation that isn't expected, and of each that is gone.

    Raises:
        HarnessError: a property or precision that there isn't.
        HarnessFailure: the harness failed.
        OSError: a case file can't be written.
    """
    started = time.monotonic()
    _refuse_unknown(asked)
    guardian = Guardian()
    forks: list[Forks] = []
    of_thread = threading.local()

    def begin() -> None:
        of_thread.forks = Forks(guardian)
        forks.append(of_thread.forks)

    def run(one: Listed) -> Found:
        found = _found(one, expected, asked, of_thread.forks)
        for sentence in alarms(found):
            say(sentence)
        done(one.name)
        return found

    pool = ThreadPoolExecutor(max(1, min(asked.workers, len(listed))), initializer=begin)
    try:
        found = list(pool.map(run, listed))
    finally:
        # An interrupted run ends what runs, and begins nothing more.
        pool.shutdown(wait=False, cancel_futures=True)
        for one in forks:
            one.close()
        guardian.close()
    return Table(found, asked.examples, asked.seed, time.monotonic() - started)


def _refuse_unknown(asked: Asked) -> None:
    known = [name for role in SubjectKind for name in property_names(role)]
    for name in asked.properties:
        if name not in known:
            raise unknown_name("property", name, known)
    precisions_named(asked.precisions)


def _tasks(role: SubjectKind, asked: Asked) -> tuple[Task, ...]:
    """Of a role's subjects; none where all that is asked for is of the other role."""
    names = [name for name in asked.properties if name in property_names(role)]
    if asked.properties and not names:
        return ()
    try:
        return plan((role,), names, asked.precisions)
    except UsageError:
        return ()


def _found(listed: Listed, expected: Sequence[Expected], asked: Asked, forks: Forks) -> Found:
    told = versions(listed)
    if (absent := absence(listed)) is not None:
        return Found(listed, *absent, versions=told)
    began = time.monotonic()
    deadline = began + asked.timeout
    tasks = list(_tasks(listed.role, asked))
    loaded: Mapping[str, Any] | None = None
    rows: list[dict[str, Any]] = []
    while tasks:
        record = forks.run(_order(listed, asked, tasks), max(deadline - time.monotonic(), 0.1))
        if record.loaded is None:
            return _not_loaded(listed, record, told)
        loaded = record.loaded
        rows += record.results
        tasks = tasks[len(record.results) :]
        if record.overdue or record.unfinished is None:
            rows += [_left(task, record.ended or OUT_OF_TIME) for task in tasks]
            tasks = []
        elif tasks:
            # The subject has taken its process down in a case.
            rows.append(_ended(tasks.pop(0), record))
    alone = _alone(listed, asked, rows, forks)
    cells = [_cell(listed, row, alone, expected, asked) for row in rows]
    _forget_old_cases(listed, cells, asked)
    assert loaded is not None or not cells
    found = loaded or {"held_to": "", "sentence": "", "table": {}}
    return Found(
        listed,
        State.RUN,
        versions=told,
        held_to=found["held_to"],
        held_to_words=found["sentence"],
        does=found["table"],
        cells=cells,
        seconds=time.monotonic() - began,
    )


def _order(listed: Listed, asked: Asked, tasks: Sequence[Task]) -> dict[str, Any]:
    return {
        "role": listed.role.value,
        "subject": listed.spec.as_json(),
        "examples": asked.examples,
        "seed": asked.seed,
        "tasks": [(task.property, task.precision) for task in tasks],
        "until": Level.FAULT.value,
        "others": [],
        "shrink": False,
    }


def _not_loaded(listed: Listed, record: Record, told: Mapping[str, str]) -> Found:
    why = record.refused[0] if record.refused is not None else f"loading it {record.ended}"
    if failure := import_failure(listed):
        return Found(listed, State.NOT_IMPORTED, failure, told)
    return Found(listed, State.DOES_NOT_FIT, why, told)


def _left(task: Task, why: str) -> dict[str, Any]:
    return _row(task, Status.NOT_RUN, message=why)


def _ended(task: Task, record: Record) -> dict[str, Any]:
    return _row(
        task,
        Status.VIOLATED,
        level=Level.FAULT.value,
        examples=record.cases,
        seconds=record.seconds,
        message=record.ended,
        descriptor=record.at,
    )


def _row(task: Task, status: Status, **more: Any) -> dict[str, Any]:
    """A result as a search writes it."""
    nothing = {"level": None, "examples": 0, "seconds": 0.0, "message": "", "descriptor": None}
    return {"property": task.property, "precision": task.precision, "status": status.value, **nothing, **more}


def _alone(
    listed: Listed, asked: Asked, rows: Sequence[Mapping[str, Any]], forks: Forks
) -> dict[tuple[str, str], bool | None]:
    """Of each violating case, by property and precision, whether it violates the property by itself."""
    calls = [
        {"property": row["property"], "precision": row["precision"], "case": row["descriptor"]}
        for row in rows
        if row["descriptor"] is not None
    ]
    if not calls:
        return {}
    return forks.run({**_order(listed, asked, []), "replays": calls}, asked.timeout).replayed


def _cell(
    listed: Listed,
    row: Mapping[str, Any],
    alone: Mapping[tuple[str, str], bool | None],
    expected: Sequence[Expected],
    asked: Asked,
) -> Cell:
    task = Task(listed.role, row["property"], row["precision"])
    cell = Cell(
        task.property,
        task.precision,
        Status(row["status"]),
        None if row["level"] is None else Level(row["level"]),
        row["examples"],
        row["seconds"],
        row["message"],
        expected=expected_of(listed, task, expected),
        strict=asked.strict,
    )
    if row["descriptor"] is None:
        return cell
    case = case_from_json(row["descriptor"], f"what was found of {listed.name}")
    settings = settings_for(listed.role, listed.spec, seed=asked.seed)
    file = CaseFile.of(settings, task, case, cell.message)
    path = asked.cases / listed.name / file.file_name()
    file.write(path)
    return replace(
        cell,
        case=describe(case, task.property),
        case_file=path,
        alone=alone.get((task.property, task.precision)),
    )


def _forget_old_cases(listed: Listed, cells: Sequence[Cell], asked: Asked) -> None:
    """Remove the case files of earlier tables, of the same properties under the same precisions."""
    kept = {cell.case_file for cell in cells}
    for cell in cells:
        if cell.status is Status.NOT_RUN:
            continue
        beginning = f"{listed.role.value}.{cell.name}.{cell.precision}."
        for path in (asked.cases / listed.name).glob(f"{beginning}*.json"):
            if path not in kept:
                path.unlink()
