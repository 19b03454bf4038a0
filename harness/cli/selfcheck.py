"""``harness selfcheck``: does the harness notice what is known to be wrong, and leave what is right in peace?"""

from __future__ import annotations

import argparse
import datetime
import math
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.cli.check import write_reports
from harness.cli.rehearse import seconds_of
from harness.config import load_settings
from harness.errors import UsageError

_MOST_SEEDS = 1000


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "selfcheck",
        help="run the harness against a catalogue of known faults and of right implementations",
        description="Search each fault of a catalogue for the property that must notice it, and each right "
        "implementation for what isn't there. A fault that survives, or a fault found in what is right, fails it. "
        "The seeds alone decide what is found, not the number of processes.",
    )
    parser.add_argument(
        "catalogue", nargs="?", metavar="CATALOGUE", help="a TOML file (selfcheck under [tool.harness])"
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="how often each is searched (3)")
    parser.add_argument("--seed", type=int, metavar="N", help="the first seed (0)")
    parser.add_argument("--only", metavar="WORD", help="those alone with this in their names")
    parser.add_argument("-n", "--workers", type=int, metavar="N", help="processes (one per processor)")
    parser.add_argument("--budget", metavar="TIME", help="start nothing after this long: 90s, 5m (no limit)")
    timeout = "end what takes longer at one seed; a fault survives then (600)"
    parser.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS", help=timeout)
    shrink = "also make each fault's case as small as check would, at the first seed, and tell it in the JSON"
    parser.add_argument("--shrink", action="store_true", help=shrink)
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures of every seed there")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the tables there")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run it, report, and give the exit code."""
    if not 1 <= options.seeds <= _MOST_SEEDS:
        raise UsageError(f"--seeds is {options.seeds}, but must be from 1 to {_MOST_SEEDS}.")
    if not 0.0 < options.timeout < math.inf:
        raise UsageError(f"--timeout is {options.timeout:g}, but must be a number of seconds above 0.")
    budget = None if options.budget is None else seconds_of(options.budget)
    settings = load_settings({"selfcheck": options.catalogue, "seed": options.seed, "workers": options.workers})
    if settings.selfcheck is None:
        raise UsageError(
            "no catalogue: name one, as in harness selfcheck faults.toml, or set selfcheck under [tool.harness] in "
            "pyproject.toml."
        )
    from harness.reports.console import report_console
    from harness.reports.progress import ProgressBar
    from harness.reports.selfcheck import show_selfcheck, write_selfcheck, write_selfcheck_markdown
    from harness.selfcheck.campaign import Asked, run_catalogue
    from harness.selfcheck.reading import read_catalogue
    from harness.selfcheck.verdicts import Selfcheck

    catalogue = read_catalogue(Path(settings.selfcheck))
    if options.only is not None:
        catalogue = catalogue.only(options.only)
    asked = Asked(options.seeds, settings.seed, settings.workers, budget, options.timeout, options.shrink)
    wanted = ((options.json, write_selfcheck), (options.markdown, write_selfcheck_markdown))
    reports = [(path.absolute(), write) for path, write in wanted if path is not None]
    console = report_console()

    def write(found: Selfcheck) -> OSError | None:
        dated = replace(found, command=_command(options), day=datetime.date.today().isoformat())
        return write_reports(reports, dated)

    with ProgressBar(console) as bar:
        found = run_catalogue(catalogue, asked, bar.begin, bar.did, bar.say, write, bar.waits)
    # Before anything is printed, so that no output that fails can cost them.
    unwritten = write(found)
    show_selfcheck(found, console)
    if unwritten is not None:
        raise unwritten
    return found.exit_code


def _command(options: argparse.Namespace) -> str:
    """What gives the same findings again."""
    words = ["harness", "selfcheck", *([options.catalogue] if options.catalogue else []), "--seeds", str(options.seeds)]
    for name in ("seed", "only"):
        if (value := getattr(options, name)) is not None:
            words += [f"--{name}", str(value)]
    return shlex.join(words)
