"""``python -m harness.pretence [--devices N] SCRIPT [ARGUMENT ...]``: run a script as on a machine with a GPU."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

from harness.errors import HarnessError, UsageError
from harness.pretence.ending import ending
from harness.pretence.process import pretend_cuda


def main(arguments: list[str] | None = None) -> int:
    """Run the script; its own exceptions and exit status are its own.

    Returns:
        0, or the exit code of what was refused.
    """
    parser = argparse.ArgumentParser(prog="python -m harness.pretence", description="Run a script with pretended GPUs.")
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="how many GPUs there seem to be (1)")
    parser.add_argument("script", help="the script's file")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the script's own arguments")
    given = parser.parse_args(arguments)
    argv, path = sys.argv, list(sys.path)
    try:
        if not Path(given.script).is_file():
            raise UsageError(f"there is no script {given.script!r}: give the path of its file.")
        sys.argv = [given.script, *given.arguments]
        sys.path.insert(0, str(Path(given.script).resolve().parent))
        with pretend_cuda(given.devices):
            runpy.run_path(given.script, run_name="__main__")
    except HarnessError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    finally:
        sys.argv, sys.path[:] = argv, path
    return 0


if __name__ == "__main__":
    with ending():
        sys.exit(main())
