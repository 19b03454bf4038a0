"""``harness golden check|update|diff|drift``: recorded values that guard a refactor."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config import load_settings
from harness.errors import ExitCode

if TYPE_CHECKING:
    from harness.goldens.events import Event, Listener
    from harness.goldens.folder import GoldenFolder
    from harness.reports.console import ReportConsole
    from harness.reports.golden_model import GoldenModel


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "golden",
        help="compare with recorded values, or record them",
        description="Compare the subjects of golden/suite.toml with their float64 truth and with what was recorded.",
    )
    actions = parser.add_subparsers(dest="action", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--only", metavar="PATTERN", help="only goldens whose name the pattern, or a part of it, fits")
    common.add_argument("--golden-dir", metavar="DIR", help="the goldens' folder (golden)")
    common.add_argument("--subject-root", metavar="DIR", help="put this checkout first on the import path")
    reporting = argparse.ArgumentParser(add_help=False)
    reporting.add_argument("--json", metavar="FILE", help="write the results there")
    check = actions.add_parser("check", parents=[common, reporting], help="exit 1 where one fails or is missing")
    check.set_defaults(run=_check)
    update = actions.add_parser("update", parents=[common], help="record what this machine can run, all or nothing")
    update.add_argument("--reason", metavar="TEXT", required=True, help="why; kept in the files")
    update.set_defaults(run=_update)
    diff = actions.add_parser("diff", parents=[common, reporting], help="which terms moved, how far and where to")
    diff.set_defaults(run=_diff)
    drift = actions.add_parser("drift", parents=[common, reporting], help="how much of its tolerance each value uses")
    drift.add_argument("--most", type=int, default=30, metavar="N", help="show the N that use the most (30)")
    drift.set_defaults(run=_drift)


def _check(options: argparse.Namespace) -> int:
    from harness.goldens.events import GoldenChecked
    from harness.reports.golden_text import outcome_lines

    console = _console()

    def show(event: Event) -> None:
        if isinstance(event, GoldenChecked) and event.outcome.status.value in ("failed", "missing", "unused"):
            _print(console, outcome_lines(event.outcome))

    return _finish(options, _checked(options, console, show), console)


def _diff(options: argparse.Namespace) -> int:
    from harness.reports.golden_text import moved_lines, outcome_lines

    console = _console()
    model = _checked(options, console)
    for outcome in model.outcomes:
        # Without a comparison there is no term to speak of.
        if outcome.status.value in ("failed", "missing") and not outcome.deviations:
            _print(console, outcome_lines(outcome))
    _print(console, moved_lines(model.outcomes) or ["nothing moved"])
    return _finish(options, model, console)


def _drift(options: argparse.Namespace) -> int:
    from harness.reports.golden_text import drift_lines

    console = _console()
    model = _checked(options, console)
    _print(console, drift_lines(model.outcomes, options.most))
    return _finish(options, model, console)


def _update(options: argparse.Namespace) -> int:
    goldens = _goldens(options)
    from harness.goldens.recording import update
    from harness.reports.golden_text import update_lines

    console = _console()
    with _listening(console) as (model, listen):
        update(goldens, options.reason, options.only, listen)
    if model.refused:
        print("\n".join(update_lines(model)), file=sys.stderr)
        return ExitCode.VIOLATED
    _print(console, update_lines(model))
    return ExitCode.HELD


def _goldens(options: argparse.Namespace) -> GoldenFolder:
    settings = load_settings({"golden_dir": options.golden_dir, "subject_root": options.subject_root})
    from harness.goldens.folder import GoldenFolder

    return GoldenFolder(Path(settings.golden_dir), settings.subject_root)


def _console() -> ReportConsole:
    from harness.reports.console import report_console

    return report_console()


def _print(console: ReportConsole, lines: Iterable[str]) -> None:
    for line in lines:
        console.plain(line)


@contextlib.contextmanager
def _listening(console: ReportConsole, show: Listener | None = None) -> Iterator[tuple[GoldenModel, Listener]]:
    """A model, and the listener that feeds it, a bar, and whatever shows each as it is done."""
    from harness.reports.golden_model import GoldenModel
    from harness.reports.progress import GoldenProgress, ProgressBar

    model = GoldenModel()
    with ProgressBar(console) as bar:
        listeners: list[Listener] = [model, GoldenProgress(bar), *([show] if show else [])]

        def listen(event: Event) -> None:
            for listener in listeners:
                listener(event)

        yield model, listen


def _checked(options: argparse.Namespace, console: ReportConsole, show: Listener | None = None) -> GoldenModel:
    goldens = _goldens(options)
    from harness.goldens.checking import check
    from harness.reports.environment import environment

    with _listening(console, show) as (model, listen):
        check(goldens, options.only, listen, environment())
    return model


def _finish(options: argparse.Namespace, model: GoldenModel, console: ReportConsole) -> int:
    from harness.files import write_atomically
    from harness.reports.golden_text import report, summary

    if options.json:
        write_atomically(Path(options.json), json.dumps(report(model), indent=1) + "\n")
    console.plain(summary(model.outcomes))
    failed = any(outcome.status.value in ("failed", "missing") for outcome in model.outcomes)
    return ExitCode.VIOLATED if failed else ExitCode.HELD
