"""``harness baseline``: accept the violations that there are today, for a reason."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from harness.cli.check import add_check_options, check, check_settings
from harness.cli.replay import from_here
from harness.errors import ExitCode, UsageError


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "baseline",
        help="accept today's violations",
        description="Check as harness check does, and accept what is violated, of any level: from then on check fails "
        "on what is new or worse, that is of a graver level, or with a badness more than 4 times the accepted one. "
        "What is checked and violated no more is taken out; what isn't checked stays as it was. Exit 0, or 5 where not "
        "everything was run.",
    )
    parser.add_argument("--reason", metavar="TEXT", required=True, help="why it is accepted; kept in the file")
    until = "the last day on which it is accepted, as 2026-12-31; after it the violation counts again"
    parser.add_argument("--until", metavar="DATE", help=until)
    add_check_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check, write the baseline, and give the exit code."""
    from harness.engine.result import Outcome
    from harness.findings.baseline import date_from, read_baseline
    from harness.reports.run_model import RunModel

    reason = options.reason.strip()
    if not reason:
        raise UsageError("--reason is empty: say why these violations are accepted.")
    until = None if options.until is None else date_from(options.until, "--until")
    settings = check_settings(options)
    path = Path(settings.baseline)
    before, run_model = read_baseline(path), RunModel()
    check(settings, run_model)
    results = [cell.result for cell in run_model.cells]
    after = before.updated(results, settings, reason, until)
    after.write(path)
    gone = len(before.gone(results, settings))
    aside = f", {gone} taken out that {'is' if gone == 1 else 'are'} violated no more" if gone else ""
    count = len(run_model.violated)
    print(f"{count} {'violation' if count == 1 else 'violations'} accepted{aside}: {from_here(path)}")
    return ExitCode.INCOMPLETE if run_model.outcome is Outcome.INCOMPLETE else ExitCode.HELD
