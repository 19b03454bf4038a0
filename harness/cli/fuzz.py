"""``harness fuzz``: a campaign over a subject, for as long as you like, on as many machines."""

from __future__ import annotations

import argparse
import datetime
import re
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.check import (
    add_call_options,
    add_case_timeout,
    add_loss_options,
    add_subject_options,
    given_subject,
    write_reports,
)
from harness.cli.rehearse import seconds_of
from harness.config import Settings, load_settings
from harness.errors import UsageError
from harness.files import is_name, shown

if TYPE_CHECKING:
    from harness.fuzzing.summary import Summary

_MOST_ROUNDS = 10**6
_TIME = "10m"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "fuzz",
        help="search a subject for as long as you like: a campaign, on one machine or many",
        description="Search the subject round after round, each with seeds of its own, and keep what is found in a "
        "campaign's folder. The same command again goes on where it stopped. What a unit of work finds depends on the "
        "campaign's seed alone, however many shards and processes there are.",
    )
    add_subject_options(parser, bare=True)
    add_loss_options(parser)
    add_call_options(parser)
    parser.add_argument("--precision", action="append", metavar="NAME", help="only this precision (repeatable)")
    parser.add_argument("--property", action="append", metavar="NAME", help="only this property (repeatable)")
    promise = "hold the step to a policy: norm-limit=20 (repeatable)"
    parser.add_argument("--promise", action="append", metavar="NAME=VALUE", help=promise)
    fault = "leave this fault out of the step's programs (repeatable)"
    parser.add_argument("--without", action="append", metavar="FAULT", help=fault)
    strict = "fail for every level of violation, not for faults alone"
    parser.add_argument("--strict", action="store_true", default=None, help=strict)
    examples = "examples per property and precision, in each round (100)"
    parser.add_argument("--max-examples", type=int, metavar="N", help=examples)
    parser.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same campaign (0)")
    parser.add_argument("--max-time", metavar="TIME", help=f"start no unit after this long: 90s, 10m, 8h ({_TIME})")
    rounds = "end after so many rounds of every property and precision (no end; then there is no time limit of itself)"
    parser.add_argument("--rounds", type=int, metavar="N", help=rounds)
    parser.add_argument("--shard", default="0/1", metavar="I/N", help="only shard I of N, from 0/N to N-1/N (0/1)")
    where = "a name under .harness/campaigns, or a folder with a slash in it (the subject's name and the seed)"
    parser.add_argument("--campaign", metavar="NAME", help=where)
    database = "share cases that failed there: a folder, file:///folder or redis://host:port/number (.harness/cases)"
    parser.add_argument("--db", metavar="URL", help=database)
    merge = "run nothing: bring these campaigns' shards together in the folder of --campaign, and report"
    parser.add_argument("--merge", nargs="+", metavar="DIR", help=merge)
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="who runs the shards (local)")
    address = "of a Ray cluster, such as auto or ray://host:10001 (one is started here)"
    parser.add_argument("--ray-address", metavar="ADDRESS", help=address)
    parser.add_argument("--workers", type=int, metavar="N", help="processes on this machine (one per processor)")
    add_case_timeout(parser)
    parser.add_argument("--cases-dir", metavar="DIR", help="the folder of --db where none is named (.harness/cases)")
    parser.add_argument("--baseline", metavar="FILE", help="the accepted violations (.harness/baseline.json)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results and the coverage there")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run or merge, report, and give the exit code."""
    settings = _settings(options)
    if options.rounds is not None and not 1 <= options.rounds <= _MOST_ROUNDS:
        raise UsageError(f"--rounds is {options.rounds}, but must be from 1 to {_MOST_ROUNDS}.")
    report = None if options.json is None else options.json.absolute()
    folder = _folder(options, settings)

    from harness.findings.baseline import read_baseline
    from harness.reports.console import report_console
    from harness.reports.fuzz import show_campaign, write_campaign

    baseline, console = read_baseline(Path(settings.baseline)), report_console()
    found, folder = (
        _merged(options, folder, console) if options.merge else (_ran(options, settings, folder, console), folder)
    )
    found.strict = settings.strict
    found.judge(baseline, datetime.date.today())
    unwritten = write_reports([(report, write_campaign)] if report is not None else [], found)
    show_campaign(found, folder, console)
    if unwritten is not None:
        raise unwritten
    return int(found.exit_code)


def _settings(options: argparse.Namespace) -> Settings:
    limit = options.max_time if options.max_time is not None or options.rounds is not None else _TIME
    try:
        seconds = None if limit is None else seconds_of(limit)
    except UsageError:
        raise UsageError(f"--max-time is {shown(limit)}, but must be a time such as 90s or 10m.") from None
    more = ("strict", "max_examples", "seed", "workers", "case_timeout", "cases_dir", "baseline")
    return load_settings(
        {
            **given_subject(options),
            "promises": options.promise,
            "without": options.without,
            "precisions": options.precision,
            "properties": options.property,
            "max_time": seconds,
            **{name: getattr(options, name) for name in more},
        }
    )


def _folder(options: argparse.Namespace, settings: Settings) -> Path:
    """Of the campaign; with ``--merge`` the subject isn't known yet."""
    name = options.campaign
    if name is None:
        specs = [spec for spec in (settings.loss, settings.step) if spec is not None]
        words = [re.sub(r"[^A-Za-z0-9_.]+", "-", spec.rpartition(":")[2]) for spec in specs]
        name = "merged" if options.merge else "-".join([*words, f"seed{settings.seed}"])
    if not name or name in (".", "..") or not is_name(name):
        raise UsageError(f"--campaign is {shown(name)}, which is no name of a folder.")
    if "/" in name:
        return Path(name).absolute()
    return Path(settings.cases_dir).parent / "campaigns" / name


def _ran(options: argparse.Namespace, settings: Settings, folder: Path, console: Any) -> Summary:
    from harness.engine.session import subject_kinds
    from harness.fuzzing.campaign import Asked, Teller, run_campaign
    from harness.fuzzing.units import shard_from
    from harness.reports.progress import ProgressBar

    shard = shard_from(options.shard)
    subject_kinds(settings)
    engine = None
    if options.engine == "ray":
        from harness.fuzzing.ray_engine import RayEngine

        engine = RayEngine(options.ray_address)
    elif options.ray_address is not None:
        raise UsageError("--ray-address is for --engine ray.")
    with ProgressBar(console) as bar:
        units = count(1)
        # Without an end there are no so-and-so many of all.
        did = bar.did if options.rounds is not None else lambda what: bar.still(f"{next(units)} units done ({what})")
        teller = Teller(bar.begin, did, bar.say)
        return run_campaign(Asked(settings, folder, shard, options.rounds, options.db, engine), teller)


def _merged(options: argparse.Namespace, folder: Path, console: Any) -> tuple[Summary, Path]:
    from harness.fuzzing.examples import tried
    from harness.fuzzing.merging import merge
    from harness.fuzzing.summary import Summary
    from harness.reports.progress import ProgressBar

    with ProgressBar(console) as bar:
        merged = merge([Path(source).absolute() for source in options.merge], folder, bar.begin, bar.did)
    console.plain(f"merged {merged.added} records into {folder}; {merged.twice} were there already, and the same.")
    summary = Summary(merged.folder.plan, rounds=options.rounds, notes=merged.notes)
    for record in merged.folder.records(summary.notes):
        summary.add(record)
    summary.tried = list(tried(merged.folder))
    return summary, folder
