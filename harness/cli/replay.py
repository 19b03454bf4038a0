"""``harness replay FILE``: FIXED (exit 0), FAILED (exit 1), or no answer (the error's own exit code)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from harness.cli.check import add_subject_options
from harness.config import Settings
from harness.errors import ExitCode, HarnessError


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "replay",
        help="run a saved case again",
        description="Run a saved case again: FIXED (exit 0), FAILED (1), or an error (2 file, 3 subject).",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="a case file, as harness check leaves them")
    add_subject_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Replay and give the exit code."""
    from harness.findings.replay import Answer, replay
    from harness.reports.words import describe

    given = Settings(loss=options.loss, step=options.step, subject_root=options.subject_root, images=options.images)
    try:
        replayed = replay(options.file, given)
    except HarnessError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return error.exit_code
    task = replayed.file.task
    print(f"{replayed.answer.value}: {task.property} under {task.precision}: {replayed.message}")
    print(f"  case: {describe(replayed.file.case)}")
    return ExitCode.HELD if replayed.answer is Answer.FIXED else ExitCode.VIOLATED
