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
from harness.rehearsal.warm import Channel, print_to


def main() -> None:
    """Fork a process for every order: a line of JSON on stdin. On stdout, its number, and ``over`` when it has ended.

    A process that becomes :mod:`harness.rehearsal.warm` takes further orders from there itself, and answers likewise.
    """
    # What every optimizer imports, once for all runs.
    importlib.import_module("torch._dynamo")
    for line in sys.stdin:
        process = os.fork()
        if not process:
            _run(json.loads(line))
        os.waitpid(process, 0)
        print("over", flush=True)


def _run(order: Mapping[str, Any]) -> NoReturn:
    """Run the script of the order, in a session of its own."""
    try:
        os.setsid()
        print(os.getpid(), flush=True)
        os.chdir(order["folder"])
        channel = Channel.kept() if order["fork"] else None
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        print_to(order["printed"])
        sys.stdin = os.fdopen(0)
        if order["ranks"] > 1:
            fork_ranks(order["ranks"], lambda rank: rehearse_process(order, rank))
        else:
            rehearse_process(order, None, channel)
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
