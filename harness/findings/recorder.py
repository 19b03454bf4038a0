"""Writes case files as the engine's events come."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from harness.cases.descriptors import Case
from harness.cases.serialization import case_text
from harness.config import Settings
from harness.engine.events import CaseFailed, CaseStarted, Event, ProcessLost, TaskFinished, WorstKept
from harness.engine.plan import Task
from harness.findings.case_file import CaseFile


class CaseRecorder:
    """A listener that keeps the case in hand on disk, and every first, worst and shrunk failing case.

    The case in hand lies in ``in-flight.<process>.json``: a run that is killed, or a subject that takes the
    interpreter down, leaves just that file.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._in_flight: _InFlightFile | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, CaseStarted):
            if self._in_flight is None:
                self._in_flight = _InFlightFile(_in_flight_path(self.settings, os.getpid()))
            self._in_flight.write(self.settings, event.task, event.case)
        elif isinstance(event, CaseFailed):
            path = case_path(self.settings, event.task, event.case)
            CaseFile.of(self.settings, event.task, event.case, event.message, event.earlier).write(path)
        elif isinstance(event, WorstKept):
            path = case_path(self.settings, event.task, event.case)
            CaseFile.of(self.settings, event.task, event.case, event.message).write(path)
        elif isinstance(event, TaskFinished) and self._in_flight is not None:
            self._in_flight.remove()
            self._in_flight = None
        elif isinstance(event, ProcessLost):
            # Its case is on record as a finding.
            with contextlib.suppress(OSError):
                _in_flight_path(self.settings, event.process).unlink()


class _InFlightFile:
    """One small file overwritten by a single write for each case.

    Moving a new file into place, as for the others, would take milliseconds a case on a journalling file system.
    """

    _SIZE = 8192  # more than nearly every file has

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._size = path, self._SIZE
        self._task: Task | None = None
        self._but_for_the_case = ""
        self._handle = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)

    def write(self, settings: Settings, task: Task, case: Case) -> None:
        if task != self._task:
            # All but the case is the same while it is, and takes longer to put into words than most cases to run.
            fields = CaseFile.of(settings, task, case).as_json(self._path)
            self._task, self._but_for_the_case = task, json.dumps({k: v for k, v in fields.items() if k != "case"})
        # Padded with spaces, which JSON ignores, to the longest so far: nothing of a longer one is left behind, and
        # without truncation there is no moment with half a file.
        text = f'{self._but_for_the_case[:-1]}, "case": {case_text(case)}}}'.encode()
        self._size = max(self._size, len(text))
        os.lseek(self._handle, 0, os.SEEK_SET)
        os.write(self._handle, text.ljust(self._size) + b"\n")

    def remove(self) -> None:
        os.close(self._handle)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()


def _in_flight_path(settings: Settings, process: int) -> Path:
    return Path(settings.cases_dir) / f"in-flight.{process}.json"


def case_path(settings: Settings, task: Task, case: Case) -> Path:
    """Where the failing case is kept."""
    return Path(settings.cases_dir) / CaseFile.of(settings, task, case).file_name()
