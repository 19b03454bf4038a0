"""The ``harness`` command. Nothing heavy is imported until a subcommand runs."""

from __future__ import annotations

import argparse
import importlib
import io
import sys
from collections.abc import Sequence
from typing import NoReturn

from harness import __version__
from harness.cli.failures import exit_code_of
from harness.cli.interruption import interruptible
from harness.cli.leaving import leave

_COMMANDS = (
    "check",
    "replay",
    "export",
    "keep",
    "baseline",
    "explain",
    "report",
    "schema",
    "golden",
    "compare",
    "conditions",
    "bench",
    "rehearse",
    "watch",
    "shrink",
    "selfcheck",
    "conformance",
    "fuzz",
    "subjects",
    "doctor",
    "cuda",
)


def command_line() -> argparse.ArgumentParser:
    """The parser with all its subcommands."""
    parser = argparse.ArgumentParser(
        prog="harness",
        description="Property-based tests for masked SSIM losses and AMP training steps.",
        epilog="exit codes: 0 all held, 1 violated, 2 usage, settings or files, 3 the subject could not be loaded or "
        "does not fit, 4 the harness itself failed, 5 nothing violated, but not all was run, 6 a precision can't be "
        "had here, 130 and 143 interrupted",
    )
    parser.add_argument("--version", action="version", version=f"harness {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True)
    for name in _COMMANDS:
        importlib.import_module(f"harness.cli.{name}").add_parser(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: without, this process' own, which then is the command's own.
    """
    for stream in (sys.stdout, sys.stderr):
        # What a terminal's or a pipe's encoding lacks comes out as a question mark, not as a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    options = command_line().parse_args(arguments)
    options.own_process = arguments is None
    try:
        with interruptible():
            code = int(options.run(options))
            sys.stdout.flush()
            return code
    except BaseException as error:
        return exit_code_of(error, options)


def command() -> NoReturn:
    """The whole life of a process that is the ``harness`` command."""
    leave(main())


if __name__ == "__main__":
    command()
