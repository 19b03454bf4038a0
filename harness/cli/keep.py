"""``harness keep``: mended cases become regression cases."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from harness.cli.check import (
    add_call_options,
    add_case_timeout,
    add_loss_options,
    add_regressions_dir,
    add_subject_options,
)
from harness.cli.replay import from_here, given_settings, say_error
from harness.errors import ExitCode, HarnessError


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "keep",
        help="keep a mended case as a regression case",
        description="Run saved cases again, and keep those that hold now as regression cases, which every check runs "
        "first. One that still fails isn't kept (exit 1). Commit the folder.",
    )
    parser.add_argument("files", metavar="CASE", type=Path, nargs="+", help="a case file, as harness check leaves them")
    add_subject_options(parser)
    add_loss_options(parser)
    add_call_options(parser)
    add_case_timeout(parser)
    add_regressions_dir(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Keep what holds, and give the exit code: of the first that isn't kept."""
    from harness.findings.keep import keep

    checked, given = given_settings(options, {"regressions_dir": options.regressions_dir})
    codes = []
    for path in options.files:
        try:
            replayed, kept = keep(path, Path(checked.regressions_dir), given)
        except HarnessError as error:
            codes.append(say_error(error))
            continue
        if kept is None:
            task = replayed.file.task
            print(
                f"NOT KEPT: {task.property} under {task.precision} still fails ({replayed.message}): mend it first, or "
                f"accept it with harness baseline"
            )
            codes.append(int(ExitCode.VIOLATED))
        else:
            print(f"KEPT: {from_here(kept)}")
    return next(iter(codes), int(ExitCode.HELD))
