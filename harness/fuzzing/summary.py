"""What a campaign came to: its units' records taken together."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from harness.engine.plan import Task
from harness.engine.result import Status
from harness.errors import ExitCode
from harness.findings.baseline import Baseline, Standing
from harness.fuzzing.coverage import Coverage
from harness.fuzzing.plan import Plan
from harness.fuzzing.records import Found, UnitRecord
from harness.fuzzing.units import Shard
from harness.oracle.levels import Level


@dataclass
class Tally:
    """One property under one precision, of all units.

    Attributes:
        statuses: in how many units it was held, violated, and so on.
        worst: the gravest violation, and of these the worst; ``None`` for none.
        smallest: case files of it.
        messages: why it was not run or not applicable.
    """

    task: Task
    statuses: dict[Status, int] = field(default_factory=dict)
    worst: Found | None = None
    cases: dict[str, None] = field(default_factory=dict)
    why_not: str = ""
    standing: Standing = Standing.NEW

    def add(self, found: Found) -> None:
        """One unit more."""
        self.statuses[found.status] = self.statuses.get(found.status, 0) + 1
        if found.status is Status.VIOLATED:
            self.cases.update(dict.fromkeys(name for name in (found.case, found.worst) if name))
            if self.worst is None or _gravity(found) > _gravity(self.worst):
                self.worst = found
        elif found.message and not self.why_not:
            self.why_not = found.message

    @property
    def units(self) -> int:
        """In which it was run."""
        return self.statuses.get(Status.HELD, 0) + self.statuses.get(Status.VIOLATED, 0)


def _gravity(found: Found) -> tuple[int, float]:
    return -(found.level or Level.FAULT).rank, found.badness


@dataclass
class Summary:
    """A campaign, as far as it has come.

    Attributes:
        shard: whose units are told of as its own part; of a whole campaign 0/1.
        rounds: that were asked for; ``None`` for no end.
        done: units with a record.
        seconds: that they took, of one process each.
        tried: examples of the database, and what they do here.
        notes: sentences on what went otherwise than it should: damaged records, a database that was gone.
        stopped: why the last run ended before its end.
    """

    plan: Plan
    shard: Shard = field(default_factory=Shard)
    rounds: int | None = None
    strict: bool = False
    done: set[int] = field(default_factory=set)
    seconds: float = 0.0
    tallies: dict[Task, Tally] = field(default_factory=dict)
    coverage: Coverage = field(default_factory=Coverage)
    tried: list[Found] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stopped: str = ""
    ran: int = 0
    ran_cases: int = 0
    wall: float = 0.0

    def add(self, record: UnitRecord) -> None:
        """One unit more."""
        self.done.add(record.unit.index)
        self.seconds += record.seconds
        self.coverage.add(record.coverage)
        for found in record.found:
            self.tallies.setdefault(found.task, Tally(found.task)).add(found)

    def judge(self, baseline: Baseline, today: datetime.date) -> None:
        """Which violations the baseline accepts."""
        settings = self.plan.settings()
        for tally in self.tallies.values():
            if tally.worst is not None:
                tally.standing = baseline.standing(tally.worst.as_result(), settings, today)

    @property
    def violated(self) -> list[Tally]:
        """Properties that were violated, the gravest first, else in the order of the plan."""
        order = {task: place for place, task in enumerate(t for group in self.plan.units.groups for t in group)}
        found = [tally for tally in self.tallies.values() if tally.worst is not None]
        return sorted(found, key=lambda t: ((t.worst.level or Level.FAULT).rank if t.worst else 0, order[t.task]))

    @property
    def missing(self) -> int:
        """Units that were asked for and have no record: of the first round, or of all rounds that were asked for."""
        end = (1 if self.rounds is None else self.rounds) * self.plan.round_size
        return sum(i not in self.done for i in range(self.shard.index, end, self.shard.count))

    @property
    def complete_rounds(self) -> int:
        """Rounds of which each unit of the shard has a record."""
        size, index, count = self.plan.round_size, self.shard.index, self.shard.count
        number = index
        while number in self.done:
            number += count
        return number // size

    @property
    def not_run(self) -> list[Tally]:
        """Properties that some unit left undecided."""
        return [tally for tally in self.tallies.values() if tally.statuses.get(Status.NOT_RUN)]

    @property
    def exit_code(self) -> ExitCode:
        """Violated where a violation counts that no baseline accepts; incomplete where something is missing."""
        results = [t.worst.as_result() for t in self.violated if t.worst and t.standing is not Standing.ACCEPTED]
        results += [one.as_result() for one in self.tried if one.status is Status.VIOLATED]
        if any(result.counts(self.strict) for result in results):
            return ExitCode.VIOLATED
        ran = any(tally.units for tally in self.tallies.values())
        return ExitCode.INCOMPLETE if self.missing or self.not_run or not ran else ExitCode.HELD


def findings(records: Iterable[UnitRecord]) -> dict[int, Any]:
    """What the units found, and which cases they ran, by their numbers: the same for the same campaign, whoever ran
    them.
    """
    return {
        record.unit.index: {
            "seed": record.unit.seed,
            "found": [one.as_json() for one in record.found],
            "coverage": record.coverage.as_json(),
        }
        for record in records
    }
