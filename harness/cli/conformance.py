"""``harness conformance``: public packages held to the properties, and whether that comes out as expected."""

from __future__ import annotations

import argparse
import datetime
import math
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.check import write_reports
from harness.config import Settings, load_settings
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.conformance.table import Expected, Listed, Table
    from harness.reports.console import ReportConsole

_MOST_EXAMPLES = 100_000
_EXAMPLES = 40
_EXPECTED = "expected.toml"
_CASES = ".harness/conformance"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "conformance",
        help="hold public packages to the properties, and compare with what is expected",
        description="Hold each subject of a file to every property under every precision, and compare with the "
        "expected violations. One that isn't expected, or occurs no longer, fails it; a package that isn't installed "
        "is told, and fails nothing.",
    )
    parser.add_argument(
        "subjects", nargs="?", metavar="SUBJECTS", help="a TOML file (conformance under [tool.harness])"
    )
    expected = "a TOML file of expected violations (expected.toml beside SUBJECTS, where there is one)"
    parser.add_argument("--expected", metavar="FILE", type=Path, help=expected)
    parser.add_argument("--only", metavar="WORD", help="those subjects alone with this in their names")
    parser.add_argument("--precision", action="append", metavar="NAME", help="only this precision (repeatable)")
    parser.add_argument("--property", action="append", metavar="NAME", help="only this property (repeatable)")
    examples = f"examples per property and precision ({_EXAMPLES})"
    parser.add_argument("--max-examples", type=int, default=_EXAMPLES, metavar="N", help=examples)
    parser.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same cases (0)")
    parser.add_argument("-n", "--workers", type=int, metavar="N", help="subjects at a time (one per processor)")
    timeout = "of a subject, run nothing more after so long (3600)"
    parser.add_argument("--timeout", type=float, default=3600.0, metavar="SECONDS", help=timeout)
    strict = "every level of violation must be expected, not faults alone"
    parser.add_argument("--strict", action="store_true", help=strict)
    parser.add_argument("--cases", metavar="DIR", type=Path, help=f"keep the violating cases there ({_CASES})")
    again = "run nothing: compare a table that --json wrote with what is expected now"
    parser.add_argument("--from", dest="saved", metavar="FILE", type=Path, help=again)
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the table there, to be read again by --from")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write it there in GitHub's Markdown")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write one page there, to be read offline")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run or read the table, report, and give the exit code."""
    if not 1 <= options.max_examples <= _MOST_EXAMPLES:
        raise UsageError(f"--max-examples is {options.max_examples}, but must be from 1 to {_MOST_EXAMPLES}.")
    if not 0.0 < options.timeout < math.inf:
        raise UsageError(f"--timeout is {options.timeout:g}, but must be a number of seconds above 0.")
    settings = load_settings({"conformance": options.subjects, "seed": options.seed, "workers": options.workers})
    if settings.conformance is None:
        raise UsageError(
            "no subjects: name a file of them, as in harness conformance subjects.toml, or set conformance under "
            "[tool.harness] in pyproject.toml."
        )
    from harness.conformance.reading import read_expected, read_subjects
    from harness.conformance.table import only
    from harness.reports.conformance import show_conformance
    from harness.reports.console import report_console

    subjects = Path(settings.conformance)
    listed = read_subjects(subjects)
    beside = subjects.parent / _EXPECTED
    path = options.expected or (beside if beside.exists() else None)
    expected = () if path is None else read_expected(path, listed)
    if options.only is not None:
        listed = only(listed, options.only)
    reports = _reports(options)
    console = report_console()
    table = (
        _ran(options, settings, listed, expected, console)
        if options.saved is None
        else _saved(options, listed, expected)
    )
    # Before anything is printed, so that no output that fails can cost them.
    unwritten = write_reports(reports, table)
    show_conformance(table, console)
    if unwritten is not None:
        raise unwritten
    return int(table.exit_code)


def _reports(options: argparse.Namespace) -> list[tuple[Path, Callable[[Path, Table], None]]]:
    from harness.reports.conformance import write_conformance_markdown
    from harness.reports.conformance_json import write_conformance
    from harness.reports.page.conformance import write_conformance_page

    wanted = (
        (options.json, write_conformance),
        (options.markdown, write_conformance_markdown),
        (options.html, write_conformance_page),
    )
    return [(path.absolute(), write) for path, write in wanted if path is not None]


def _ran(
    options: argparse.Namespace,
    settings: Settings,
    listed: tuple[Listed, ...],
    expected: tuple[Expected, ...],
    console: ReportConsole,
) -> Table:
    import os

    from harness.conformance.running import Asked, run_table
    from harness.reports.environment import environment
    from harness.reports.progress import ProgressBar

    asked = Asked(
        cases=(options.cases or Path(_CASES)).absolute(),
        examples=options.max_examples,
        seed=settings.seed,
        workers=settings.workers or os.cpu_count() or 1,
        timeout=options.timeout,
        properties=tuple(options.property or ()),
        precisions=tuple(options.precision or ()),
        strict=options.strict,
    )
    with ProgressBar(console) as bar:
        bar.begin(len(listed))
        table = run_table(listed, expected, asked, bar.did, bar.say)
    day = datetime.date.today().isoformat()
    return replace(table, command=_command(options), day=day, environment=environment())


def _saved(options: argparse.Namespace, listed: tuple[Listed, ...], expected: tuple[Expected, ...]) -> Table:
    from harness.reports.conformance_json import read_conformance

    for name in ("property", "precision", "cases"):
        if getattr(options, name) is not None:
            raise UsageError(f"--{name} is for a run, and with --from nothing is run: leave one of them out.")
    return read_conformance(options.saved, listed, expected, strict=options.strict)


def _command(options: argparse.Namespace) -> str:
    """What finds the same again, and keeps its cases in the same place."""
    words = ["harness", "conformance", *([options.subjects] if options.subjects else [])]
    for name in ("expected", "only", "precision", "property", "seed", "cases"):
        value = getattr(options, name)
        for one in value if isinstance(value, list) else [] if value is None else [value]:
            words += [f"--{name}", str(one)]
    words += ["--max-examples", str(options.max_examples), *(["--strict"] if options.strict else [])]
    return shlex.join(words)
