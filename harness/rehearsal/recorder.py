"""Writes what is seen of a run, line by line, and ends the process when its program is through."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from harness.files import json_value
from harness.rehearsal.faults import Fault
from harness.rehearsal.places import Places
from harness.rehearsal.program import Planned, Program, UntilSaved
from harness.rehearsal.record import Ending, Run, Window
from harness.rehearsal.windows import Director


def record_of(record: str, rank: int | None) -> Path:
    """The file of a process that trains with others, or alone."""
    return Path(record) if rank is None else Path(f"{record}.{rank}")


class Recorder:
    """Of one process.

    Args:
        order: what was ordered.
        rank: the process' number among those that train together; ``None`` where it is alone.

    Attributes:
        run: what is seen.
        director: that decides what is put in.
        thorough: whether each window's state is wanted.
        last: when a window ended last, of a monotonic clock; ``None`` before the first.
        slowest: the seconds that the slowest took.
    """

    def __init__(self, order: Mapping[str, Any], rank: int | None, places: Places) -> None:
        self.order, self.rank, self.places = order, rank, places
        self.run = Run()
        self.last: float | None = None
        self.slowest = 0.0
        self._lock = threading.Lock()
        self._ended = False
        self._file = record_of(order["record"], rank).open("w", encoding="utf-8")
        self._write("folder", {"path": places.folder})
        planned = [Planned(Fault(fault), place, only) for fault, place, only in order["planned"]]
        self.thorough = order["until"] != "faults" or rank is not None
        self.director: Director
        if order["until"] == "saved":
            self.director = UntilSaved(planned, self.killed, lambda: self.end(Ending()), self.window_ended)
        else:
            self.director = Program(planned, self.finished, self.window_ended, rank)

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

    def _wait_for_others(self) -> None:
        records = [record_of(self.order["record"], rank) for rank in range(self.order["ranks"])]
        until = time.monotonic() + 2 * self.order["patience"] + 10 * self.slowest
        while time.monotonic() < until and not all(map(_has_ended, records)):
            time.sleep(0.05)

    def _write(self, kind: str, values: Mapping[str, Any]) -> None:
        self._file.write(json.dumps({kind: json_value(values)}, allow_nan=False) + "\n")
        self._file.flush()


def _has_ended(record: Path) -> bool:
    return record.exists() and '\n{"ending": ' in record.read_text(encoding="utf-8")
