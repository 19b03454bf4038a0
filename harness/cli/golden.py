"""``harness golden check|update|diff|drift``: recorded values that guard a refactor."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config import load_settings
from harness.errors import ExitCode

if TYPE_CHECKING:
    from harness.goldens.checking import Goldens, Outcome


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
    from harness.reports.golden_text import outcome_lines

    def show(outcome: Outcome) -> None:
        if outcome.status.value in ("failed", "missing", "unused"):
            print("\n".join(outcome_lines(outcome)), flush=True)

    return _finish(options, _outcomes(options, show))


def _diff(options: argparse.Namespace) -> int:
    from harness.reports.golden_text import moved_lines, outcome_lines

    outcomes = _outcomes(options)
    for outcome in outcomes:
        # Without a comparison there is no term to speak of.
        if outcome.status.value in ("failed", "missing") and not outcome.deviations:
            print("\n".join(outcome_lines(outcome)))
    print("\n".join(moved_lines(outcomes)) or "nothing moved")
    return _finish(options, outcomes)


def _drift(options: argparse.Namespace) -> int:
    from harness.reports.golden_text import drift_lines

    outcomes = _outcomes(options)
    print("\n".join(drift_lines(outcomes, options.most)))
    return _finish(options, outcomes)


def _update(options: argparse.Namespace) -> int:
    from harness.goldens.recording import update_goldens
    from harness.reports.golden_text import outcome_lines

    update = update_goldens(_goldens(options), options.reason, options.only)
    for outcome in update.refused:
        print("\n".join(outcome_lines(outcome)), file=sys.stderr)
    if update.refused:
        print("nothing was recorded: a golden may not lie outside the truth's budget", file=sys.stderr)
        return ExitCode.VIOLATED
    for name in update.written:
        print(f"recorded {name}")
    for name in update.removed:
        print(f"removed {name}")
    print(f"goldens: {len(update.written)} recorded, {len(update.removed)} removed")
    return ExitCode.HELD


def _goldens(options: argparse.Namespace) -> Goldens:
    settings = load_settings({"golden_dir": options.golden_dir, "subject_root": options.subject_root})
    from harness.goldens.checking import Goldens

    return Goldens(Path(settings.golden_dir), settings.subject_root)


def _outcomes(options: argparse.Namespace, show: Any = None) -> list[Outcome]:
    outcomes = []
    for outcome in _goldens(options).check(options.only):
        outcomes.append(outcome)
        if show is not None:
            show(outcome)
    return outcomes


def _finish(options: argparse.Namespace, outcomes: list[Outcome]) -> int:
    from harness.files import write_atomically
    from harness.reports.golden_text import report, summary

    if options.json:
        write_atomically(Path(options.json), json.dumps(report(outcomes), indent=1) + "\n")
    print(summary(outcomes))
    failed = any(outcome.status.value in ("failed", "missing") for outcome in outcomes)
    return ExitCode.VIOLATED if failed else ExitCode.HELD
