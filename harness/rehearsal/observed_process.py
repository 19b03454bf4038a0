"""One process in which a script runs, observed, with faults put into it."""

from __future__ import annotations

import contextlib
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from harness.errors import HarnessError, describe_exception
from harness.rehearsal.observer import Observer
from harness.rehearsal.places import Places, Script
from harness.rehearsal.rank_processes import end_if_stuck, spawns_observed
from harness.rehearsal.record import Ending
from harness.rehearsal.recorder import Recorder
from harness.rehearsal.warm import Channel


def rehearse_process(order: Mapping[str, Any], rank: int | None, channel: Channel | None = None) -> NoReturn:
    """Run the script of the order in this process, which ends.

    Args:
        rank: its number among those that train together; ``None`` where it is alone.
        channel: to whom gives the orders, if this process may be forked for further ones.
    """
    script = Script(order["script"], order["module"])
    if order["module"]:
        sys.path.insert(0, order["folder"])
    sys.argv = [script.module or script.path, *order["arguments"]]

    def run() -> None:
        with spawns_observed(_spawned, order, recorder) if rank is not None else contextlib.nullcontext():
            if script.module:
                runpy.run_module(script.module, run_name="__main__", alter_sys=True)
            else:
                # As Python has it: its lines then have their file's whole path, wherever it was called from.
                path = Path(script.path).resolve()
                sys.path.insert(0, str(path.parent))
                runpy.run_path(str(path), run_name="__main__")

    places = Places(script)
    recorder = Recorder(order, rank, places, channel)
    with _pretence(order["pretend_cuda"], order["ranks"]):
        _watch(order, recorder, places, run)


def _spawned(order: Mapping[str, Any], fn: Any, count: int, rank: int, *args: Any) -> NoReturn:
    """A process that the script started with ``spawn``: it is in a pretence already, where there is one."""
    places = Places(Script(order["script"], order["module"]))
    recorder = Recorder({**order, "ranks": count}, rank, places)
    _watch(order, recorder, places, lambda: fn(rank, *args))


def _watch(order: Mapping[str, Any], recorder: Recorder, places: Places, run: Callable[[], object]) -> NoReturn:
    observer = Observer(places, recorder.director, order["half"], thorough=recorder.thorough)
    recorder.run, recorder.settle = observer.run, partial(observer.settle, wait=True)
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
        observer.finish(bool(ending.raised or ending.refusal))
        recorder.end(ending)


@contextlib.contextmanager
def _pretence(wanted: bool, devices: int) -> Iterator[None]:
    if not wanted:
        yield
        return
    from harness.pretence import pretend_cuda

    with pretend_cuda(devices):
        yield
