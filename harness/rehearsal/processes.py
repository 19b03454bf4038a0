"""A process for each run of a script, made by one that has torch imported already."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.config import environment_with_path
from harness.rehearsal.places import Script
from harness.rehearsal.program import Planned
from harness.rehearsal.record import Did, Ending, Run, Window
from harness.rehearsal.recorder import record_of

OUT_OF_TIME = Ending(refusal="out of time")
PATIENCE = 10.0
"""Seconds after which a process that trains with others waits in vain."""
_LAST_LINES = 15


class Processes:
    """Runs scripts, each in a session of its own; use as a context manager, from one thread.

    A run is forked from a process that imported torch and did nothing else, which saves a run its seconds.
    """

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.kill()
            server.communicate()

    def run(
        self,
        script: Script,
        planned: Sequence[Planned],
        pretend_cuda: bool,
        seconds: float,
        *,
        half: str = "",
        until: str = "faults",
    ) -> tuple[Run, str]:
        """One run of the script with these faults.

        Args:
            seconds: after which it is ended.
            half: the half precision that autocast is to have; empty for the script's own.
            until: when it ends by itself: ``faults``, once they are through; ``saved``, killed after a checkpoint that
                follows the first of them; ``resumed``, as for faults. The last two keep each window's state.

        Returns:
            What was seen of it, and the last lines that it printed.
        """
        (run,), words = self._runs(script, planned, pretend_cuda, seconds, half=half, until=until)
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
                "record": str(record),
                "printed": str(printed),
                "folder": os.getcwd(),
            }
            in_time = self._run_order(order, seconds)
            words = printed.read_text(errors="replace").splitlines() if printed.exists() else []
            runs = []
            for rank in range(ranks) if ranks > 1 else (None,):
                own = record_of(str(record), rank)
                runs.append(read_run(own) if own.exists() else Run(ending=_WITHOUT_A_WORD))
                runs[-1].rank = rank
                if not in_time and runs[-1].ending == _WITHOUT_A_WORD:
                    runs[-1].ending = OUT_OF_TIME
        return runs, "\n".join(words[-_LAST_LINES:])

    def _run_order(self, order: Mapping[str, Any], seconds: float) -> bool:
        """Whether it ended by itself in time."""
        server = self._server
        if server is None or server.poll() is not None:
            server = self._server = _start()
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(order).encode() + b"\n")
        server.stdin.flush()
        process = int(server.stdout.readline() or 0)
        try:
            ready, _, _ = select.select([server.stdout], [], [], seconds)
        finally:
            # It and whatever it started.
            if process:
                with suppress(OSError):
                    os.killpg(process, signal.SIGKILL)
        server.stdout.readline()
        return bool(ready)


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


_WITHOUT_A_WORD = Ending(refusal="its process ended without a word")


def read_run(record: Path) -> Run:
    """A run as its process wrote it; a last line that a kill cut off is left out."""
    run = Run(ending=_WITHOUT_A_WORD)
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
        elif "ending" in found:
            values = dict(found["ending"])
            run.scaler = values.pop("scaler")
            run.begun = values.pop("begun")
            run.loads = [(file, place) for file, place in values.pop("loads")]
            run.ending = Ending(**values)
    return run
