"""``harness export CASE``: the case as one Python file that one can send."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from harness.cli.check import add_call_options, add_case_timeout, add_loss_options, add_subject_options
from harness.cli.replay import given_settings
from harness.errors import ExitCode


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "export",
        help="write a saved case as a script that needs torch and the subject alone",
        description="Write a saved case of a loss, or of a step that is fed losses, as one Python file that imports "
        "torch and the subject, and not the harness. It is run once, and its header says what it printed. Exit 0, or 5 "
        "where the script doesn't show the failure by itself.",
    )
    parser.add_argument("file", metavar="CASE", type=Path, help="a case file, as harness check leaves them")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write it there instead of printing it")
    add_subject_options(parser)
    add_loss_options(parser)
    add_call_options(parser)
    add_case_timeout(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Export, and give the exit code."""
    from harness.files import write_atomically
    from harness.findings.export.export import export

    out = None if options.out is None else options.out.absolute()
    _, given = given_settings(options, {})
    exported = export(options.file, given)
    if out is None:
        print(exported.text)
    else:
        write_atomically(out, exported.text)
        shows = "shows the failure" if exported.reproduces else "does NOT show the failure by itself"
        print(f"{options.out} {shows}; it printed:\n{exported.printed}")
    if not exported.reproduces and out is None:
        print("harness: the script does not show the failure by itself", file=sys.stderr)
    return ExitCode.HELD if exported.reproduces else ExitCode.INCOMPLETE
