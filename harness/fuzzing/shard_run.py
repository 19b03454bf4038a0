"""Run the units of one shard that have no record yet, in several processes, for so long or so many rounds."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from harness.config import Settings
from harness.engine.guardian import Guardian
from harness.fuzzing.plan import Loaded
from harness.fuzzing.records import UnitRecord, hangs
from harness.fuzzing.unit_process import UnitProcess
from harness.fuzzing.units import MOST_UNITS, Shard, Units

_TICK_SECONDS = 0.2
# So many units in a row in which the subject hung, and the rest is given up: each costs the time limit.
MOST_HANGS = 3
OUT_OF_TIME = "out of time"
HUNG = f"{MOST_HANGS} units in a row each had a case in which the subject hung"


@dataclass(frozen=True)
class Bounds:
    """How far a run of a campaign goes.

    Attributes:
        rounds: of every property and precision; ``None`` for no end.
        deadline: on the monotonic clock, after which no unit is started; ``None`` for none.
    """

    rounds: int | None = None
    deadline: float | None = None

    @property
    def over(self) -> bool:
        """The time is."""
        return self.deadline is not None and time.monotonic() >= self.deadline


class Processes:
    """The processes that run units, each with a thread that watches it; ended together.

    Args:
        settings: they name the subjects, and their seed is the campaign's. Of processes there are as many as they say
            ``workers``, 0 for one per processor.
    """

    def __init__(self, settings: Settings) -> None:
        self._guardian = Guardian()
        count = settings.workers or os.cpu_count() or 1
        self.all = [UnitProcess(settings, self._guardian) for _ in range(count)]

    def load(self) -> Loaded:
        """Load the subjects in the first of them.

        Raises:
            HarnessError, HarnessFailure: as :meth:`UnitProcess.load`.
        """
        return self.all[0].load()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.all:
            process.close()
        self._guardian.close()


@dataclass
class ShardRun:
    """One run of a shard.

    Attributes:
        done: numbers of the units that have a record.
        stopped: why it came to an end before all rounds were done; empty where it didn't.
    """

    units: Units
    shard: Shard
    bounds: Bounds
    done: Collection[int]
    stopped: str = ""
    _hangs: int = 0
    _next: Iterator[int] = field(init=False)
    _lock: Any = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._next = self.left()

    @property
    def end(self) -> int:
        """The number after the last unit of all rounds."""
        rounds = self.bounds.rounds
        return MOST_UNITS if rounds is None else min(MOST_UNITS, rounds * len(self.units.groups))

    def left(self) -> Iterator[int]:
        """The numbers of the units that are to be run."""
        done = set(self.done)
        return (i for i in range(self.shard.index, self.end, self.shard.count) if i not in done)

    def records(self, processes: Processes) -> Iterator[UnitRecord]:
        """Run the units, and give what came of each as soon as it is done.

        Raises:
            HarnessError, HarnessFailure: the subject can't be loaded any more; the harness failed.
        """
        heard: queue.Queue[UnitRecord | BaseException | None] = queue.Queue()
        for process in processes.all:
            threading.Thread(target=self._work, args=(process, heard), daemon=True).start()
        working = len(processes.all)
        while working:
            try:
                one = heard.get(timeout=_TICK_SECONDS)
            except queue.Empty:
                continue
            if one is None:
                working -= 1
            elif isinstance(one, BaseException):
                raise one
            else:
                self._hangs = self._hangs + 1 if hangs(one.found) else 0
                if self._hangs >= MOST_HANGS:
                    self.stopped = HUNG
                yield one

    def _work(self, process: UnitProcess, heard: queue.Queue[UnitRecord | BaseException | None]) -> None:
        try:
            while (index := self._taken()) is not None:
                heard.put(process.run(self.units[index], str(self.shard)))
        except BaseException as error:
            heard.put(error)
        heard.put(None)

    def _taken(self) -> int | None:
        """The next unit's number; ``None`` where none is to be started."""
        with self._lock:
            if self.stopped:
                return None
            if self.bounds.over:
                if next(self._next, None) is not None:
                    self.stopped = OUT_OF_TIME
                return None
            return next(self._next, None)
