"""The process in which a script is rehearsed: observed, given faults, and ended when the program is through.

``python -m harness.rehearsal.child`` takes orders, as JSON: what to do, and the file for what was seen: a line of JSON
for each window, as it ends, and one for the ending.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from harness.errors import HarnessError, describe_exception
from harness.rehearsal.observer import Observer
from harness.rehearsal.places import Places, Script
from harness.rehearsal.rank_processes import end_if_stuck, fork_ranks, spawns_observed
from harness.rehearsal.record import Ending
from harness.rehearsal.recorder import Recorder


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
            fork_ranks(order["ranks"], lambda rank: _rehearse(order, rank))
        else:
            _rehearse(order, None)
    finally:
        os._exit(0)


def _rehearse(order: Mapping[str, Any], rank: int | None) -> NoReturn:
    script = Script(order["script"], order["module"])
    if order["module"]:
        sys.path.insert(0, order["folder"])
    sys.argv = [script.module or script.path, *order["arguments"]]

    def run() -> None:
        with spawns_observed(_observed, order, recorder) if rank is not None else contextlib.nullcontext():
            if script.module:
                runpy.run_module(script.module, run_name="__main__", alter_sys=True)
            else:
                sys.path.insert(0, str(Path(script.path).resolve().parent))
                runpy.run_path(script.path, run_name="__main__")

    places = Places(script)
    recorder = Recorder(order, rank, places)
    with _pretence(order["pretend_cuda"], order["ranks"]):
        _watch(order, recorder, places, run)


def _observed(order: Mapping[str, Any], fn: Any, count: int, rank: int, *args: Any) -> NoReturn:
    """A process that the script started with ``spawn``: it is in a pretence already, where there is one."""
    places = Places(Script(order["script"], order["module"]))
    recorder = Recorder({**order, "ranks": count}, rank, places)
    _watch(order, recorder, places, lambda: fn(rank, *args))


def _watch(order: Mapping[str, Any], recorder: Recorder, places: Places, run: Any) -> NoReturn:
    observer = Observer(places, recorder.director, order["half"], thorough=recorder.thorough)
    recorder.run = observer.run
    ending = Ending()
    if recorder.rank is not None:
        end_if_stuck(recorder)
    with observer:
        try:
            run()
        except HarnessError as error:
            ending = Ending(refusal=str(error), where=places.of(error.__traceback__))
        except SystemExit as error:
            if error.code not in (None, 0):
                ending = Ending(raised=f"SystemExit: {error.code}", where=places.of(error.__traceback__))
        except BaseException as error:
            traceback.print_exc()
            ending = Ending(raised=describe_exception(error), where=places.of(error.__traceback__))
        seen = len(observer.run.windows)
        observer.finish(bool(ending.raised or ending.refusal))
        for window in observer.run.windows[seen:]:
            recorder.window_ended(window)
        recorder.end(ending)


@contextlib.contextmanager
def _pretence(wanted: bool, devices: int) -> Iterator[None]:
    if not wanted:
        yield
        return
    from harness.pretence import pretend_cuda

    with pretend_cuda(devices):
        yield


if __name__ == "__main__":
    main()
