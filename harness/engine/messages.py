"""What goes through the pipe between the pool and a worker, in both directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.config import Settings
from harness.engine.events import Event
from harness.engine.plan import Task
from harness.engine.result import Call, Elsewhere, KnownCase, TaskResult
from harness.errors import HarnessError
from harness.properties.verdict import Verdict


@dataclass(frozen=True)
class Start:
    """The first thing that a worker is told.

    Attributes:
        deadline: on the monotonic clock, which all processes of a machine share.
        listener: told of every event, in the worker.
        confirms: search results are confirmed on a subject that nothing was done to.
        shows: what a report can show of a violation is gathered.
    """

    settings: Settings
    deadline: float | None
    listener: Callable[[Event], None]
    confirms: bool = True
    shows: bool = True


@dataclass(frozen=True)
class Check:
    """Run one task; the known cases are tried first, and then those from elsewhere."""

    task: Task
    elsewhere: Elsewhere
    known: tuple[KnownCase, ...] = ()


@dataclass(frozen=True)
class Judge:
    """Run the earlier calls and then the last one, and say what came of that."""

    calls: tuple[Call, ...]


Order = Check | Judge


@dataclass(frozen=True)
class Loading:
    """The worker begins to import and build a subject, at this moment of the monotonic clock."""

    spec: str
    at: float


@dataclass(frozen=True)
class Ready:
    """The subjects are loaded, and are of these kinds."""

    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Heard:
    """An event, to be passed on."""

    event: Event


@dataclass(frozen=True)
class Answer:
    """The order is carried out."""

    result: TaskResult | Verdict


@dataclass(frozen=True)
class Refused:
    """The worker can't go on, for a reason that a person can mend."""

    error: HarnessError


@dataclass(frozen=True)
class Broken:
    """The harness failed in the worker; the traceback."""

    traceback: str


Message = Loading | Ready | Heard | Answer | Refused | Broken
