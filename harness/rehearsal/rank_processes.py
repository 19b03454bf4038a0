"""Processes that train together: started as ``torchrun`` does, or by ``torch.multiprocessing.spawn``."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch

from harness.config import put_into_environment
from harness.pretence.patches import Patches
from harness.rehearsal.record import Ending
from harness.rehearsal.recorder import Recorder

_WINDOWS = 5  # so many times the slowest window is a wait without end


def fork_ranks(count: int, run: Callable[[int], Any]) -> None:
    """Fork so many processes, each with the variables that ``torchrun`` sets, and wait until all have ended."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    started = []
    for rank in range(count):
        process = os.fork()
        if not process:
            try:
                own = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0}
                size = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
                where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
                put_into_environment({name: str(value) for name, value in {**own, **size, **where}.items()})
                run(rank)
            finally:
                os._exit(0)
        started.append(process)
    for process in started:
        os.waitpid(process, 0)


@contextlib.contextmanager
def spawns_observed(observed: Callable[..., Any], order: Mapping[str, Any], recorder: Recorder) -> Iterator[None]:
    """Within, ``torch.multiprocessing.spawn`` starts processes that are observed.

    A script that starts its processes by itself needs no ``torchrun``: rank 0 starts them, and the others leave.

    Args:
        observed: called in each as ``observed(order, fn, count, rank, *args)``; it never returns.
    """
    patches = Patches()

    def make(stock: Callable[..., Any]) -> Callable[..., Any]:
        def spawn(fn: Any, args: tuple[Any, ...] = (), nprocs: int = 1, *_: Any, **__: Any) -> Any:
            recorder.give_up()
            try:
                if not recorder.rank:
                    stock(partial(observed, dict(order), fn, nprocs), args=args, nprocs=nprocs)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(0)

        return spawn

    patches.wrap(torch.multiprocessing, "spawn", make)
    try:
        yield
    finally:
        patches.restore()


def end_if_stuck(recorder: Recorder) -> None:
    """From now on, end this process if it waits for others that don't come, and tell where it did."""
    threading.Thread(target=_watch, args=(recorder, threading.get_ident()), daemon=True).start()


def _watch(recorder: Recorder, thread: int) -> None:
    while True:
        time.sleep(0.1)
        last = recorder.last
        if last is None:
            continue
        if time.monotonic() - last > max(recorder.order["patience"], _WINDOWS * recorder.slowest):
            frame = sys._current_frames().get(thread)
            recorder.end(Ending(stuck=recorder.places.at(frame) or "somewhere"))
