"""``harness schema``: the JSON Schema of a run's report."""

from __future__ import annotations

import argparse
import json
from typing import Any

from harness.errors import ExitCode


def add_parser(subparsers: Any) -> None:
    what = "print the JSON Schema of what check --json writes"
    parser = subparsers.add_parser("schema", help=what, description=what)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print it."""
    from harness.reports.report_schema import report_schema

    print(json.dumps(report_schema(), indent=2))
    return ExitCode.HELD
