"""Run a campaign, or one shard of it, from where it stopped."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from harness.config import Settings
from harness.engine.result import Status
from harness.files import one_line
from harness.findings.case_file import replay_command
from harness.fuzzing.campaign_folder import CampaignFolder, one_at_a_time, opened
from harness.fuzzing.databases import Exchange, database_of
from harness.fuzzing.examples import tried, try_out, untried
from harness.fuzzing.plan import make_plan
from harness.fuzzing.records import Found, UnitRecord
from harness.fuzzing.shard_run import OUT_OF_TIME, Bounds, Processes, ShardRun
from harness.fuzzing.summary import Summary
from harness.fuzzing.units import Shard
from harness.oracle.levels import Level

# The database is asked for what is new no more often than this.
_EXCHANGE_SECONDS = 5.0


@dataclass(frozen=True)
class Asked:
    """What is to be run.

    Attributes:
        settings: of a check; their seed is the campaign's, and their time limit that of this run.
        folder: of the campaign.
        rounds: of every property and precision; ``None`` for no end.
        database: as ``--db`` has it.
        engine: runs units that have no record yet; ``None``: processes of this machine.
    """

    settings: Settings
    folder: Path
    shard: Shard = field(default_factory=Shard)
    rounds: int | None = None
    database: str | None = None
    engine: Engine | None = None


Engine = Callable[[CampaignFolder, Settings, ShardRun], Iterable[UnitRecord]]


@dataclass(frozen=True)
class Teller:
    """Who is told how it goes.

    Attributes:
        begin: how many units there are to be run, where there is an end.
        did: a unit is done: its property.
        say: a sentence on what was found.
    """

    begin: Callable[[int], None] = lambda _: None
    did: Callable[[str], None] = lambda _: None
    say: Callable[[str], None] = lambda _: None


def run_campaign(asked: Asked, teller: Teller) -> Summary:
    """Run what has no record yet, and tell what the campaign has come to.

    Raises:
        HarnessError: the folder is of another campaign, the database can't be had, the subject can't be loaded.
        HarnessFailure: the harness failed.
    """
    settings, began = asked.settings, time.monotonic()
    # First of all the subject is asked of what kinds it is, which decides what shares its runs.
    with Processes(settings) as processes:
        plan = make_plan(settings, processes.load())
        # Before anything is written.
        database = database_of(asked.database or settings.cases_dir, plan)
        folder = opened(asked.folder, plan)
        with contextlib.closing(database), one_at_a_time(folder, asked.shard):
            exchange = Exchange(database, folder, plan)
            summary = Summary(plan, asked.shard, asked.rounds, settings.strict)
            for record in folder.records(summary.notes):
                summary.add(record)
            for note in summary.notes:
                teller.say(note)
            deadline = None if settings.max_time is None else began + settings.max_time
            run = ShardRun(plan.units, asked.shard, Bounds(asked.rounds, deadline), summary.done)
            told = _Telling(folder, teller)
            exchange.take()
            for path in untried(folder, asked.shard):
                if run.bounds.over:
                    run.stopped = OUT_OF_TIME
                    break
                if (found := try_out(folder, path, processes.all[0])) is not None:
                    told.of_example(found)
            engine = asked.engine or (lambda folder, settings, run: run.records(processes))
            if asked.rounds is not None:
                teller.begin(sum(1 for _ in run.left()))
            _run_units(engine(folder, settings, run), folder, exchange, summary, told)
            summary.tried, summary.stopped = list(tried(folder)), run.stopped
            if exchange.trouble:
                summary.notes.append(f"{exchange.trouble} {exchange.unsent} case files were not shared; they are kept.")
    summary.wall = time.monotonic() - began
    return summary


def _run_units(
    records: Iterable[UnitRecord], folder: CampaignFolder, exchange: Exchange, summary: Summary, told: _Telling
) -> None:
    looked = time.monotonic()
    for record in records:
        folder.add(record)
        summary.add(record)
        summary.ran += 1
        summary.ran_cases += record.cases
        told.of_unit(record)
        exchange.give({name: json.dumps(content, indent=2) + "\n" for name, content in record.files.items()})
        if time.monotonic() - looked > _EXCHANGE_SECONDS:
            looked = time.monotonic()
            exchange.take()
    exchange.give({})
    exchange.take()


class _Telling:
    """Says that a property is violated; again only where it is graver."""

    def __init__(self, folder: CampaignFolder, teller: Teller) -> None:
        self._folder, self._teller = folder, teller
        self._told: dict[tuple[str, str], int] = {}

    def of_unit(self, record: UnitRecord) -> None:
        for found in record.found:
            self._of(found, self._folder.cases)
        self._teller.did(record.found[0].task.property)

    def of_example(self, found: Found) -> None:
        self._of(found, self._folder.examples)

    def _of(self, found: Found, where: Path) -> None:
        if found.status is not Status.VIOLATED:
            return
        level, key = found.level or Level.FAULT, (found.task.property, found.task.precision)
        if level.rank < self._told.get(key, level.rank + 1):
            self._told[key] = level.rank
            name = level.value.upper() if level is Level.FAULT else level.value
            replay = replay_command(where / found.case) if found.case else ""
            self._teller.say(f"{name} {key[0]} under {key[1]}: {one_line(found.message, 300)}\n  {replay}".rstrip())
