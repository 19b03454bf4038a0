"""``harness doctor``: what can run here, and what a bug report needs."""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path
from typing import Any

_STDOUT = "-"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="say what can run here, and why the rest can't",
        description="Versions, machine, GPU, precisions, settings and folders: what a bug report needs. Exit 0 where "
        "checks can run, 2 where the settings or the cases' folder are in the way, 4 where a package that is needed "
        "can't be imported, 6 where no precision can run.",
    )
    parser.add_argument(
        "--json", metavar="FILE", nargs="?", const=_STDOUT, help="write it there; without FILE, print it as JSON"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Look around and tell."""
    from harness.files import write_atomically
    from harness.reports.doctor import diagnose, diagnosis_lines

    diagnosis = diagnose(Path.cwd())
    if options.json is not None:
        text = json.dumps(diagnosis.as_json(), indent=1, allow_nan=False) + "\n"
        if options.json == _STDOUT:
            print(text, end="")
            return diagnosis.exit_code
        write_atomically(Path(options.json), text)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Paths and processors may have letters that the terminal's encoding lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    print("\n".join(diagnosis_lines(diagnosis)))
    return diagnosis.exit_code
