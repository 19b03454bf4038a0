"""Stand-ins for streams and events: whatever is asked of one is done already."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import torch

from harness.pretence.placement import Placement

_PLACEMENT: list[Placement] = []


class Stream:
    """Stands for ``torch.cuda.Stream``: work is done in the order in which it is called."""

    def __init__(self, device: Any = None, priority: int = 0, **_: Any) -> None:
        index = _PLACEMENT[-1].index(device) if _PLACEMENT and device is not None else None
        self.device_index = index if index is not None else (_PLACEMENT[-1].current if _PLACEMENT else 0)
        self.priority = priority
        self.cuda_stream = 0
        self.stream_id = 0
        self.device_type = 1
        self._entered: list[Any] = []

    @property
    def device(self) -> torch.device:
        """The stream's GPU."""
        return torch.device("cuda", self.device_index)

    @property
    def _as_parameter_(self) -> int:
        return self.cuda_stream

    def wait_event(self, event: Any) -> None:
        """Has nothing to wait for."""

    def wait_stream(self, stream: Any) -> None:
        """Has nothing to wait for."""

    def synchronize(self) -> None:
        """Has nothing to wait for."""

    def query(self) -> bool:
        """Whether all work is done: yes."""
        return True

    def is_capturing(self) -> bool:
        """Whether a graph is being captured: never."""
        return False

    def record_event(self, event: Event | None = None) -> Event:
        """Record an event, a new one if none is given."""
        event = Event(enable_timing=True) if event is None else event
        event.record(self)
        return event

    @staticmethod
    def priority_range() -> tuple[int, int]:
        """The least and the greatest priority."""
        return (0, -5)

    def __enter__(self) -> Stream:
        self._entered.append(_CURRENT[-1])
        _CURRENT[-1] = self
        return self

    def __exit__(self, *_: object) -> None:
        _CURRENT[-1] = self._entered.pop()


class Event:
    """Stands for ``torch.cuda.Event``: times are those of the CPU, in milliseconds."""

    def __init__(self, device: Any = None, enable_timing: bool = False, **_: Any) -> None:
        self._timed = enable_timing if not isinstance(device, bool) else device
        self._time: float | None = None
        self.cuda_event = 0
        self.device = torch.device("cuda", 0)

    @classmethod
    def from_ipc_handle(cls, device: Any, handle: Any) -> Event:
        """An event of another process: this one's has long been."""
        return cls()

    def ipc_handle(self) -> bytes:
        """A handle for another process."""
        return b""

    def record(self, stream: Any = None) -> None:
        """Note the time."""
        self._time = time.perf_counter()

    def wait(self, stream: Any = None) -> None:
        """Has nothing to wait for."""

    def synchronize(self) -> None:
        """Has nothing to wait for."""

    def query(self) -> bool:
        """Whether it has been: yes."""
        return True

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this event to the other.

        Raises:
            ValueError: one of the two wasn't made with ``enable_timing=True``, or hasn't been recorded.
        """
        if not (self._timed and end_event._timed):
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        if self._time is None or end_event._time is None:
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        return (end_event._time - self._time) * 1000.0


_CURRENT: list[Stream] = [Stream()]


class StreamContext:
    """Stands for ``torch.cuda.stream(...)``."""

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream

    def __enter__(self) -> None:
        if self.stream is not None:
            self.stream.__enter__()

    def __exit__(self, *_: object) -> None:
        if self.stream is not None:
            self.stream.__exit__()


def stream(stream: Stream | None) -> StreamContext:
    """Choose a stream for a block."""
    return StreamContext(stream)


def current_stream(device: Any = None) -> Stream:
    """The stream chosen last."""
    return _CURRENT[-1]


def default_stream(device: Any = None) -> Stream:
    """A GPU's first stream."""
    return Stream(device)


def set_stream(stream: Stream | None) -> None:
    """Choose a stream."""
    if stream is not None:
        _CURRENT[-1] = stream


@contextlib.contextmanager
def streams_of(placement: Placement) -> Any:
    """Streams belong to these GPUs inside, and none is left chosen afterwards."""
    _PLACEMENT.append(placement)
    _CURRENT.append(Stream())
    try:
        yield
    finally:
        _PLACEMENT.pop()
        _CURRENT.pop()


STAND_INS: dict[str, Any] = {
    "Stream": Stream,
    "Event": Event,
    "StreamContext": StreamContext,
    "stream": stream,
    "current_stream": current_stream,
    "default_stream": default_stream,
    "set_stream": set_stream,
}
