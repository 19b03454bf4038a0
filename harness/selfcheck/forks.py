"""The parent's side of :mod:`harness.selfcheck.child`: one search at a time, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.config import environment_with_path
from harness.engine.guardian import Guardian, kill_group
from harness.errors import HarnessFailure, ending

_GONE = "the process that forks the searches is gone"


@dataclass
class Record:
    """What a search wrote.

    Attributes:
        results: of each property under a precision, as plain values.
        unfinished: the property and precision in hand where it ended before its end; ``None`` for none.
        cases: begun of what is unfinished.
        seconds: until the last of them began.
        ended: how its process ended before its end; empty where it did what it was told.
        overdue: it was ended, since it took too long.
        refused: why it could not be done, and the exit code for that; ``None`` where it could.
        smallest: the smallest case, where that was asked for.
        at: the case in hand then, as JSON; ``None`` for none.
        loaded: what the subject was found to be; ``None`` where it wasn't loaded.
        replayed: of each case that was to be replayed, by property and precision, whether it violates the
            property; ``None`` where that can't be told.
    """

    results: list[dict[str, Any]] = field(default_factory=list)
    unfinished: tuple[str, str] | None = None
    cases: int = 0
    seconds: float = 0.0
    ended: str = ""
    overdue: bool = False
    refused: tuple[str, int] | None = None
    smallest: dict[str, Any] | None = None
    at: dict[str, Any] | None = None
    loaded: dict[str, Any] | None = None
    replayed: dict[tuple[str, str], bool | None] = field(default_factory=dict)


class Forks:
    """A process that forks one for every order; used from one thread, closed from any."""

    def __init__(self, guardian: Guardian) -> None:
        self._guardian = guardian
        self._server: subprocess.Popen[bytes] | None = None
        self._child = 0
        self._closed = False

    def run(self, order: Mapping[str, Any], seconds: float) -> Record:
        """Have the order carried out.

        Args:
            seconds: after which its process is ended.

        Raises:
            HarnessFailure: the harness failed in it.
        """
        with tempfile.TemporaryDirectory() as folder:
            record = Path(folder) / "record"
            places = {"record": str(record), "printed": str(Path(folder) / "printed")}
            code = self._ended({**order, **places}, seconds)
            read = _read(record)
        if read.ended:
            read.overdue = code is None
            read.ended = f"still running after {seconds:g} s" if code is None else ending(code)
        return read

    def _ended(self, order: Mapping[str, Any], seconds: float) -> int | None:
        """The exit code of its process, negative for a signal; ``None`` where it had to be ended."""
        server = self._server
        if server is None or server.poll() is not None:
            server = self._server = self._started()
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            server.stdin.write(json.dumps(order).encode() + b"\n")
            server.stdin.flush()
        except OSError:
            raise HarnessFailure(_GONE) from None
        self._child = int(server.stdout.readline() or 0)
        if not self._child:
            raise HarnessFailure(_GONE)
        self._guardian.watch(self._child)
        ready, _, _ = select.select([server.stdout], [], [], seconds)
        # It, where it is still there, and whatever it started.
        kill_group(self._child)
        code = server.stdout.readline()
        self._guardian.forget(self._child)
        self._child = 0
        if not code:
            raise HarnessFailure(_GONE)
        return int(code) if ready else None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise HarnessFailure("the searches are over")
        server = subprocess.Popen(
            [sys.executable, "-m", "harness.selfcheck.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=environment_with_path(Path(__file__).parents[2]),
            start_new_session=True,
        )
        self._guardian.watch(server.pid)
        return server

    def close(self) -> None:
        """End what runs."""
        self._closed = True
        if child := self._child:
            kill_group(child)
        if (server := self._server) is not None:
            kill_group(server.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(timeout=1.0)
            self._guardian.forget(server.pid)


def _read(path: Path) -> Record:
    """A last line that a kill cut off is left out.

    Raises:
        HarnessFailure: it says that the harness failed.
    """
    record = Record(ended="without a word")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for line in lines:
        try:
            found: dict[str, Any] = json.loads(line)
        except ValueError:
            break
        if "began" in found:
            record.unfinished, record.cases, record.at = tuple(found["began"]), 0, None
        elif "case_at" in found:
            record.cases, record.seconds = record.cases + 1, found["case_at"]
            record.at = found["descriptor"]
        elif "property" in found:
            record.results.append(found)
            record.unfinished = None
        elif "smallest" in found:
            record.smallest = found["smallest"]
        elif "loaded" in found:
            record.loaded = found["loaded"][0]
        elif "replayed" in found:
            record.replayed[tuple(found["replayed"])] = found["violated"]
        elif "refused" in found:
            record.refused = found["refused"], found["exit_code"]
        elif "broken" in found:
            raise HarnessFailure(f"in a search:\n{found['broken']}")
    if record.refused is not None or '{"done": true}' in lines[-1:]:
        record.ended = ""
    return record
