"""A process for each run of a script, made by one that has torch imported already."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.config import environment_with_path
from harness.rehearsal.places import Script
from harness.rehearsal.program import Planned
from harness.rehearsal.record import Did, Ending, Run, Window
from harness.rehearsal.recorder import record_of
from harness.rehearsal.warm import AGAIN, end_group

OUT_OF_TIME = Ending(refusal="out of time")
WITHOUT_A_WORD = Ending(refusal="its process ended without a word")
PATIENCE = 10.0
"""Seconds after which a process that trains with others waits in vain."""
_LAST_LINES = 15


class Processes:
    """Runs scripts, each in a session of its own; use as a context manager, from one thread.

    A run is forked from a process that imported torch and did nothing else, which saves a run its seconds.
    """

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        self._warm = _Warm()

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_warm()
        self._stop()

    def end_warm(self) -> None:
        """End the process that was kept for further runs to be forked from, if there is one."""
        warm, self._warm = self._warm, _Warm()
        if warm.process:
            end_group(warm.process)
            self._wait_until_over()

    def run(
        self,
        script: Script,
        planned: Sequence[Planned],
        pretend_cuda: bool,
        seconds: float,
        *,
        half: str = "",
        until: str = "faults",
        fork: bool = False,
    ) -> tuple[Run, str]:
        """One run of the script with these faults.

        Args:
            seconds: after which it is ended.
            half: the half precision that autocast is to have; empty for the script's own.
            until: when it ends by itself: ``faults``, once they are through; ``saved``, killed after a checkpoint that
                follows the first of them; ``resumed``, as for faults. The last two keep each window's state.
            fork: until ``faults``: once it has seen its first windows, it is forked for these faults and kept, and
                forked again when the same script is run with others; where a fork would not be as good as a start, it
                goes on by itself, and the run says why.

        Returns:
            What was seen of it, and the last lines that it printed.
        """
        (run,), words = self._runs(script, planned, pretend_cuda, seconds, half=half, until=until, fork=fork)
        return run, words

    def run_ranks(
        self,
        script: Script,
        planned: Sequence[Planned],
        pretend_cuda: bool,
        seconds: float,
        ranks: int,
        *,
        half: str = "",
        patience: float = PATIENCE,
    ) -> tuple[list[Run], str]:
        """The script in several processes that train together, each window's state kept.

        Args:
            ranks: how many.
            patience: seconds after which a process that is still at the same window waits in vain.

        Returns:
            What was seen of each, and the last lines that they printed.
        """
        return self._runs(script, planned, pretend_cuda, seconds, half=half, ranks=ranks, patience=patience)

    def _runs(
        self,
        script: Script,
        planned: Sequence[Planned],
        pretend_cuda: bool,
        seconds: float,
        *,
        half: str,
        until: str = "faults",
        ranks: int = 1,
        patience: float = PATIENCE,
        fork: bool = False,
    ) -> tuple[list[Run], str]:
        with tempfile.TemporaryDirectory() as folder:
            record, printed = Path(folder) / "record", Path(folder) / "printed"
            order = {
                "script": script.path,
                "module": script.module,
                "arguments": script.arguments,
                "pretend_cuda": pretend_cuda,
                "planned": [[one.fault.value, one.place, one.rank] for one in planned],
                "half": half,
                "until": until,
                "ranks": ranks,
                "patience": patience,
                "fork": fork and until == "faults" and ranks == 1,
                "record": str(record),
                "printed": str(printed),
                "folder": os.getcwd(),
            }
            in_time = self._run_order(order, seconds)
            words = printed.read_text(errors="replace").splitlines() if printed.exists() else []
            runs = []
            for rank in range(ranks) if ranks > 1 else (None,):
                own = record_of(str(record), rank)
                runs.append(read_run(own) if own.exists() else Run(ending=WITHOUT_A_WORD))
                runs[-1].rank = rank
                if not in_time and runs[-1].ending == WITHOUT_A_WORD:
                    runs[-1].ending = OUT_OF_TIME
        return runs, "\n".join(words[-_LAST_LINES:])

    def _run_order(self, order: Mapping[str, Any], seconds: float) -> bool:
        """Whether it ended by itself in time."""
        like = {name: order[name] for name in _KEPT}
        if self._warm.order != like:
            self.end_warm()
        server = self._server
        if server is None or server.poll() is not None:
            server = self._server = _start()
        assert server.stdin is not None
        server.stdin.write(json.dumps(order).encode() + b"\n")
        server.stdin.flush()
        # The first is there once the server has imported torch, which is no time of the run.
        started = [self._warm.process or int(self._word() or 0)]
        until = time.monotonic() + seconds
        word: str | None = None
        try:
            word = self._word(until)
            if word == _OVER and self._warm.process:  # that one is gone, and the order goes to the server
                started, word = [], self._word(until)
            while word is not None and word.isdigit():
                started.append(int(word))
                word = self._word(until)
        finally:
            keeps = word == AGAIN
            # They and whatever they started.
            for process in filter(None, started[keeps:]):
                end_group(process)
            self._warm = _Warm(started[0], like) if keeps else _Warm()
            if word not in (AGAIN, _OVER, ""):
                self._wait_until_over() if started else self._stop()
        return word is not None

    def _word(self, until: float | None = None) -> str | None:
        """The next that the processes say; empty where they are gone, ``None`` where none came until then."""
        assert self._server is not None
        assert self._server.stdout is not None
        if until is not None:
            ready, _, _ = select.select([self._server.stdout], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                return None
        return self._server.stdout.readline().decode().strip()

    def _wait_until_over(self) -> None:
        while self._word() not in (_OVER, ""):
            pass

    def _stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            assert server.stdin is not None
            assert server.stdout is not None
            server.kill()
            server.wait()
            # Not read to its end: what a script left running may hold it open.
            server.stdin.close()
            server.stdout.close()


_OVER = "over"
_KEPT = ("script", "module", "arguments", "pretend_cuda", "half", "folder", "fork")


@dataclass(frozen=True)
class _Warm:
    """A process that is kept to be forked.

    Attributes:
        process: its number; 0 for none.
        order: what the orders have in common that it can be forked for.
    """

    process: int = 0
    order: Mapping[str, Any] = field(default_factory=dict)


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "harness.rehearsal.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        env=environment_with_path(Path(__file__).parents[2]),
        start_new_session=True,
    )


def read_run(record: Path) -> Run:
    """A run as its process wrote it; a last line that a kill cut off is left out."""
    run = Run(ending=WITHOUT_A_WORD)
    for line in record.read_text(encoding="utf-8").splitlines():
        try:
            found: dict[str, Any] = json.loads(line)
        except ValueError:
            break
        if "folder" in found:
            run.folder = found["folder"]["path"]
        elif "window" in found:
            window = Window.from_json(found["window"])
            run.windows.append(window)
            run.scaler |= bool(window.of(Did.SCALER_STEP, Did.UNSCALE, Did.UPDATE))
        elif "start" in found:
            run.forked, run.afresh = found["start"].get("forked", False), found["start"].get("afresh", "")
        elif "ending" in found:
            values = dict(found["ending"])
            run.scaler = values.pop("scaler")
            run.begun = values.pop("begun")
            run.loads = [(file, place) for file, place in values.pop("loads")]
            run.ending = Ending(**values)
    return run
