"""The ``harness`` command. Nothing heavy is imported until a subcommand runs."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from harness import __version__
from harness.errors import ExitCode, HarnessError

_COMMANDS = ("check", "replay", "explain", "golden", "compare", "subjects", "doctor", "cuda")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="harness",
        description="Property-based tests for masked SSIM losses and AMP training steps.",
        epilog="exit codes: 0 all held, 1 violated, 2 usage, 3 the subject could not be loaded or does not fit",
    )
    parser.add_argument("--version", action="version", version=f"harness {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True)
    for name in _COMMANDS:
        importlib.import_module(f"harness.cli.{name}").add_parser(subparsers)
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except HarnessError as error:
        print(f"harness: {error}", file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        print("harness: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"harness: {error.filename or ''} {error.strerror or error}".strip(), file=sys.stderr)
        return int(ExitCode.USAGE)


if __name__ == "__main__":
    sys.exit(main())
