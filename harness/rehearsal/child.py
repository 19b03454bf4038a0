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
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn, TextIO

from harness.errors import HarnessError, describe_exception
from harness.files import json_value
from harness.rehearsal.faults import Fault
from harness.rehearsal.observer import Observer
from harness.rehearsal.places import Places, Script
from harness.rehearsal.program import Planned, Program
from harness.rehearsal.record import Ending, Window


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
        with Path(order["record"]).open("w", encoding="utf-8") as record:
            _rehearse(order, record)
    finally:
        os._exit(0)


def _rehearse(order: Mapping[str, Any], record: TextIO) -> None:
    def write(kind: str, values: Mapping[str, Any]) -> None:
        record.write(json.dumps({kind: json_value(values)}, allow_nan=False) + "\n")
        record.flush()

    def finished() -> None:
        write("ending", {**asdict(Ending(done=True)), "scaler": observer.run.scaler})
        sys.stdout.flush()
        # The script may catch any exception, and its threads and workers may outlive it.
        os._exit(0)

    def window_ended(window: Window) -> None:
        write("window", window.as_json())

    planned = [Planned(Fault(fault), place) for fault, place in order["planned"]]
    if order["module"]:
        sys.path.insert(0, order["folder"])
    script = Script(order["script"], order["module"])
    places = Places(script)
    write("folder", {"path": places.folder})
    observer = Observer(places, Program(planned, finished, window_ended))
    sys.argv = [script.module or script.path, *order["arguments"]]
    ending = Ending()
    with _pretence(order["pretend_cuda"]), observer:
        try:
            if script.module:
                runpy.run_module(script.module, run_name="__main__", alter_sys=True)
            else:
                sys.path.insert(0, str(Path(script.path).resolve().parent))
                runpy.run_path(script.path, run_name="__main__")
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
            window_ended(window)
    write("ending", {**asdict(ending), "scaler": observer.run.scaler})
    sys.stdout.flush()
    os._exit(0)


@contextlib.contextmanager
def _pretence(wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    from harness.pretence import pretend_cuda

    with pretend_cuda():
        yield


if __name__ == "__main__":
    main()
