"""``harness report RUN.json``: a saved run as a page, as XML or in Markdown."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from harness.cli.check import add_report_options, renderings, write_reports
from harness.errors import ExitCode, UsageError


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "report",
        help="render a saved run",
        description="Render a run that harness check --json has saved: as a page, as JUnit XML, in Markdown or as "
        "SARIF. Nothing is run, and nothing in the file is executed.",
    )
    parser.add_argument("file", metavar="RUN", type=Path, help="a report, as harness check --json writes it")
    add_report_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Render; the exit code is 0 where that was possible, whatever the run's verdict."""
    from harness.reports.saved_report import read_report

    wanted = renderings(options)
    if not wanted:
        raise UsageError("nothing to write: say --html FILE, --junit FILE, --markdown FILE or --sarif FILE.")
    unwritten = write_reports(wanted, read_report(options.file))
    if unwritten is not None:
        raise unwritten
    for path, _ in wanted:
        print(path)
    return ExitCode.HELD
