"""``harness subjects``: what there is to check."""

from __future__ import annotations

import argparse
from typing import Any

from harness.config import load_settings
from harness.errors import ExitCode


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("subjects", help="list the default and the known-bad subjects")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """List them, each with the option that names it."""
    from harness.subjects.known_bad import KNOWN_BAD

    settings = load_settings({})
    print("default:")
    for kind, spec in (("loss", settings.loss), ("step", settings.step)):
        print(f"  --{kind} {spec}" if spec else f"  no {kind}: none under [tool.harness] in pyproject.toml")
    print("known to be wrong:")
    for known in KNOWN_BAD:
        print(f"  --{known.kind} {known.spec}\n      {known.fault}")
    return ExitCode.HELD
