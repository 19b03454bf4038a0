"""``harness replay FILE``: FIXED (exit 0), FAILED (exit 1) or ERROR (the error's own exit code)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from harness.cli.check import add_call_options, add_case_timeout, add_loss_options, add_subject_options, given_subject
from harness.errors import ExitCode, HarnessError, printable


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "replay",
        help="run a saved case again",
        description="Run a saved case again: FIXED (exit 0), FAILED (1) or ERROR: 2 for the file or its case, 3 for "
        "the subject. This imports the code that the case file names.",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="a case file, as harness check leaves them")
    add_subject_options(parser)
    add_loss_options(parser)
    add_call_options(parser)
    add_case_timeout(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Replay and give the exit code."""
    from harness.config import load_settings
    from harness.findings.replay import Answer, replay_contained
    from harness.kinds.registry import describe

    given = given_subject(options)
    if options.case_timeout is not None:
        given["case_timeout"] = options.case_timeout
    checked = load_settings(given)
    try:
        replayed = replay_contained(options.file, {name: getattr(checked, name) for name in given})
    except HarnessError as error:
        print(f"ERROR: {printable(str(error))}", file=sys.stderr)
        return error.exit_code
    task = replayed.file.task
    print(f"{replayed.answer.value}: {task.property} under {task.precision}: {replayed.message}")
    print(f"  case: {describe(replayed.file.case, task.property)}")
    if replayed.level is not None:
        print(f"  level: {replayed.level.value}")
    if replayed.file.earlier:
        print(f"  after {len(replayed.file.earlier)} other calls")
    return ExitCode.HELD if replayed.answer is Answer.FIXED else ExitCode.VIOLATED
