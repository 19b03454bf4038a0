"""The process in which a script is rehearsed: observed, given faults, and ended when the program is through.

``python -m harness.rehearsal.child`` takes orders, as JSON: what to do, and the file for what was seen: a line of JSON
for each window, as it ends, and one for the ending.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from harness.rehearsal.observed_process import rehearse_process
from harness.rehearsal.rank_processes import fork_ranks


def main() -> None:
    """Fork a process for every order: a line of JSON on stdin. On stdout, its number, and a line when it has ended."""
    # What every optimizer imports, once for all runs.
    importlib.import_module("torch._dynamo")
    for line in sys.stdin:
        process = os.fork()
        if not process:
            _run(json.loads(line))
        print(process, flush=True)
        os.waitpid(process, 0)
        print("over", flush=True)


def _run(order: Mapping[str, Any]) -> NoReturn:
    """Run the script of the order, in a session of its own."""
    try:
        os.setsid()
        os.chdir(order["folder"])
        with open(os.devnull) as nothing, open(order["printed"], "wb") as printed:
            os.dup2(nothing.fileno(), 0)
            for stream in (1, 2):
                os.dup2(printed.fileno(), stream)
        sys.stdin = os.fdopen(0)
        if order["ranks"] > 1:
            fork_ranks(order["ranks"], lambda rank: rehearse_process(order, rank))
        else:
            rehearse_process(order, None)
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
