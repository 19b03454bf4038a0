"""Which case a worker is at, in a file without a name that the pool has open too: to tell it wakes nobody."""

from __future__ import annotations

import json
import os
import struct
import tempfile
import zlib
from dataclasses import dataclass

from harness.cases.descriptors import Case
from harness.cases.serialization import case_from_json, case_text
from harness.engine.plan import Task
from harness.subject_spec import SubjectKind

# How many cases were begun, when the last was, and the length and the sum of what follows: nothing between two cases.
_HEAD = struct.Struct("<QdQI")
_TRIES = 100


@dataclass(frozen=True)
class Beat:
    """Of a worker's order.

    Attributes:
        begun: how many of its cases were begun.
        at: when that was told last, of the monotonic clock; 0 for not yet.
        task, case: what it runs; ``None`` between two cases.
    """

    begun: int = 0
    at: float = 0.0
    task: Task | None = None
    case: Case | None = None


class Pulse:
    """Written by a worker, at every case; read by the pool, now and then, and when the worker is gone.

    Args:
        descriptor: of the file, in the worker; ``None`` makes one.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._begun = 0
        if descriptor is None:
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
            os.pwrite(descriptor, _HEAD.pack(0, 0.0, 0, 0), 0)
        self.descriptor = descriptor

    def begin(self, task: Task, case: Case, at: float) -> None:
        """A case is about to be run."""
        self._begun += 1
        told = f"[{json.dumps([task.kind.value, task.property, task.precision])}, {case_text(case)}]".encode()
        os.pwrite(self.descriptor, _HEAD.pack(self._begun, at, len(told), zlib.crc32(told)) + told, 0)

    def rest(self, at: float, anew: bool = False) -> None:
        """No case is run; with ``anew``, those of another order are counted from here on."""
        self._begun = 0 if anew else self._begun
        os.pwrite(self.descriptor, _HEAD.pack(self._begun, at, 0, 0), 0)

    def last_at(self) -> float:
        """When it was written last, of the monotonic clock; 0 for not yet."""
        at: float = _HEAD.unpack(os.pread(self.descriptor, _HEAD.size, 0))[1]
        return at

    def read(self) -> Beat:
        """What was written last. What a subject wrote into it is taken for no case."""
        for _ in range(_TRIES):
            raw = os.pread(self.descriptor, 2**20, 0)
            begun, at, size, check = _HEAD.unpack(raw[: _HEAD.size])
            told = raw[_HEAD.size : _HEAD.size + size]
            if not size:
                return Beat(begun, at)
            # Else it was written meanwhile.
            if len(told) == size and zlib.crc32(told) == check:
                (kind, property_, precision), case = json.loads(told)
                task = Task(SubjectKind(kind), property_, precision)
                return Beat(begun, at, task, case_from_json(case, "a worker's case"))
        return Beat()

    def close(self) -> None:
        """In this process."""
        os.close(self.descriptor)
