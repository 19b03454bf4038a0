"""What a search, or a rehearsal, says of an entry of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.engine.result import Status
from harness.oracle.levels import Level
from harness.rehearsal.rehearsal import Rehearsal
from harness.selfcheck.catalogue import Fault
from harness.selfcheck.forks import Record
from harness.selfcheck.verdicts import Alarm, Attempt

OUT_OF_TIME = "out of time"


@dataclass(frozen=True)
class Judged:
    """A right implementation at one seed.

    Attributes:
        judged: properties under a precision; of a script, faults.
        violations: of any level.
        left: why some were not judged, or empty.
    """

    judged: int
    violations: tuple[Alarm, ...]
    seconds: float
    left: str = ""


@dataclass(frozen=True)
class NotRun:
    """A fault that could not be searched for here: its precision can't be had, say."""

    message: str


Outcome = Attempt | Judged | NotRun


def search_attempt(fault: Fault, seed: int, record: Record) -> Attempt | NotRun:
    """What the search for a fault came to; a subject that takes its process down in a case is caught by that."""
    if not record.results:
        killed = bool(record.unfinished) and record.cases > 0 and not record.overdue
        return Attempt(seed, killed, Level.FAULT if killed else None, record.cases, record.seconds, record.ended)
    first, *others = record.results
    if first["status"] == Status.NOT_RUN.value:
        return NotRun(first["message"])
    level = Level(first["level"]) if first["level"] else None
    killed = level is not None and level.rank <= fault.level.rank
    message = first["message"] or f"{fault.expected} held"
    if level is not None and not killed:
        message = f"{level.value} alone: {message}"
    elsewhere = next((one["property"] for one in others if one["level"] == Level.FAULT.value), "")
    if elsewhere:
        message += f"; {elsewhere} is violated"
    attempt = Attempt(seed, killed, level, first["examples"], first["seconds"], message, first["case"], elsewhere)
    return replace(attempt, smallest=record.smallest)


def search_judged(seed: int, record: Record) -> Judged:
    """What the search of what is right came to; to end its process is a false alarm, to take long is none."""
    violations = [
        Alarm(one["property"], one["precision"], seed, Level(one["level"]), one["message"])
        for one in record.results
        if one["level"]
    ]
    if record.unfinished is not None and not record.overdue:
        violations.append(Alarm(*record.unfinished, seed, Level.FAULT, record.ended))
    ran = [one for one in record.results if one["status"] in (Status.HELD.value, Status.VIOLATED.value)]
    not_run = [one["message"] for one in record.results if one["status"] == Status.NOT_RUN.value]
    left = record.ended if record.overdue else next(iter(not_run), "")
    return Judged(len(ran), tuple(violations), sum(one["seconds"] for one in ran), left)


def _put_in(rehearsal: Rehearsal) -> int:
    return sum(bool(window.fault) for run in rehearsal.runs for window in run.windows)


def script_attempt(fault: Fault, seed: int, rehearsal: Rehearsal) -> Attempt:
    """What the rehearsal of a script with a fault came to."""
    found = [one for one in rehearsal.findings if one.rule == fault.expected]
    others = sorted({one.rule for one in rehearsal.findings})
    count, seconds = _put_in(rehearsal), rehearsal.seconds
    if found:
        return Attempt(seed, True, found[0].level, count, seconds, found[0].sentence)
    message = OUT_OF_TIME if rehearsal.left else f"{fault.expected} was not broken"
    if others:
        message += f"; {others[0]} is broken"
    return Attempt(seed, False, None, count, seconds, message, elsewhere=others[0] if others else "")


def script_judged(seed: int, rehearsal: Rehearsal) -> Judged:
    """What the rehearsal of a right script came to."""
    alarms = tuple(Alarm(one.rule, "", seed, one.level, one.sentence) for one in rehearsal.findings)
    return Judged(_put_in(rehearsal), alarms, rehearsal.seconds, OUT_OF_TIME if rehearsal.left else "")
