"""Writes what is seen of a run, line by line, and ends the process when its program is through."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from harness.files import json_line
from harness.rehearsal.faults import Fault
from harness.rehearsal.fork_safety import why_not_fork
from harness.rehearsal.places import Places
from harness.rehearsal.program import Planned, Program, UntilSaved
from harness.rehearsal.record import Ending, Run, Window
from harness.rehearsal.warm import Channel, fork_for_each_order
from harness.rehearsal.windows import Director


def record_of(record: str, rank: int | None) -> Path:
    """The file of a process that trains with others, or alone."""
    return Path(record) if rank is None else Path(f"{record}.{rank}")


class Recorder:
    """Of one process.

    Args:
        order: what was ordered.
        rank: the process' number among those that train together; ``None`` where it is alone.
        channel: to whom gives the orders, if this process may be forked for further ones.

    Attributes:
        run: what is seen.
        director: that decides what is put in.
        thorough: whether each window's state is wanted.
        settle: has all be told of that was seen so far, waiting for a device that holds some of it.
        last: when a window ended last, of a monotonic clock; ``None`` before the first.
        slowest: the seconds that the slowest took.
    """

    def __init__(
        self, order: Mapping[str, Any], rank: int | None, places: Places, channel: Channel | None = None
    ) -> None:
        self.order, self.rank, self.places = order, rank, places
        self.run = Run()
        self.settle: Callable[[], None] = lambda: None
        self.last: float | None = None
        self.slowest = 0.0
        self._lock = threading.Lock()
        self._ended = False
        self._channel = channel
        self._lines: list[str] = []  # until it is known whether forks need them
        self._file = record_of(order["record"], rank).open("w", encoding="utf-8")
        self._write("folder", {"path": places.folder})
        planned = _planned(order)
        self.thorough = order["until"] != "faults" or rank is not None
        self.director: Director
        if order["until"] == "saved":
            self.director = UntilSaved(
                planned, self.killed, lambda: self.end(Ending()), self.window_ended, lambda: self.settle()
            )
        else:
            learned = self._learned if channel is not None else None
            self.director = Program(planned, self.finished, self.window_ended, lambda: self.settle(), rank, learned)

    def window_ended(self, window: Window) -> None:
        """Write it."""
        now = time.monotonic()
        self.slowest = max(self.slowest, now - self.last) if self.last is not None else 0.0
        self.last = now
        self._write("window", window.as_json())

    def finished(self) -> NoReturn:
        """The program is through."""
        self.end(Ending(done=True))

    def killed(self) -> NoReturn:
        """The program is through, and the process is killed as from outside."""
        self.write_ending(Ending(done=True))
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("a process outlived SIGKILL")

    def end(self, ending: Ending) -> NoReturn:
        """Write how it ended, wait for those that train with it, and end the process.

        The script may catch any exception, and its threads and workers may outlive it.
        """
        self.write_ending(ending)
        sys.stdout.flush()
        # A process that leaves takes its connections along, and the others' next call would raise.
        if self.rank is not None:
            self._wait_for_others()
        os._exit(0)

    def write_ending(self, ending: Ending) -> None:
        """Once."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
        more = {"scaler": self.run.scaler, "loads": self.run.loads, "begun": getattr(self.director, "begun", 0)}
        self._write("ending", {**asdict(ending), **more})

    def give_up(self) -> None:
        """Another process writes this file."""
        self._ended = True

    def _learned(self, planned: Sequence[Planned]) -> Sequence[Planned]:
        """Become the process that is forked for each program, where a fork is as good as a start."""
        assert self._channel is not None
        besides = (self._channel.orders, self._channel.answers)
        why_not = why_not_fork(besides, cuda_is_real=not self.order["pretend_cuda"])
        lines, self._lines = self._lines, []
        if why_not:
            self._channel.close()
            self._channel = None
            self._write("start", {"afresh": why_not})
            return planned
        self.order = fork_for_each_order(self.order, self._channel)
        self._channel = None
        # From here on in a fork, whose record begins with what was seen before it.
        self._file.close()
        self._file = record_of(self.order["record"], self.rank).open("w", encoding="utf-8")
        self._file.writelines(lines)
        self._write("start", {"forked": True})
        return _planned(self.order)

    def _wait_for_others(self) -> None:
        records = [record_of(self.order["record"], rank) for rank in range(self.order["ranks"])]
        until = time.monotonic() + 2 * self.order["patience"] + 10 * self.slowest
        while time.monotonic() < until and not all(map(_has_ended, records)):
            time.sleep(0.05)

    def _write(self, kind: str, values: Mapping[str, Any]) -> None:
        line = json_line({kind: values}) + "\n"
        if self._channel is not None:
            self._lines.append(line)
        self._file.write(line)
        self._file.flush()


def _planned(order: Mapping[str, Any]) -> list[Planned]:
    return [Planned(Fault(fault), place, only) for fault, place, only in order["planned"]]


def _has_ended(record: Path) -> bool:
    return record.exists() and '\n{"ending": ' in record.read_text(encoding="utf-8")
