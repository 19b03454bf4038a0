"""Writes case files as the engine's events come."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from harness.cases.descriptors import Case
from harness.config import Settings
from harness.engine.events import CaseFailed, CaseStarted, Event, TaskFinished
from harness.engine.plan import Task
from harness.findings.case_file import CaseFile


@dataclass(frozen=True)
class CaseRecorder:
    """A listener that keeps the case in hand on disk, and every first and shrunk failing case.

    The case in hand lies in ``in-flight.<process>.json``: a run that is killed, or a subject that takes the
    interpreter down, leaves just that file.
    """

    settings: Settings

    def __call__(self, event: Event) -> None:
        in_flight = Path(self.settings.cases_dir) / f"in-flight.{os.getpid()}.json"
        if isinstance(event, CaseStarted):
            CaseFile.of(self.settings, event.task, event.case).write(in_flight)
        elif isinstance(event, CaseFailed):
            path = case_path(self.settings, event.task, event.case)
            CaseFile.of(self.settings, event.task, event.case, event.message).write(path)
        elif isinstance(event, TaskFinished):
            with contextlib.suppress(FileNotFoundError):
                in_flight.unlink()


def case_path(settings: Settings, task: Task, case: Case) -> Path:
    """Where the failing case is kept."""
    return Path(settings.cases_dir) / CaseFile.of(settings, task, case).file_name()
