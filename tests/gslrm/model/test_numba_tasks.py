"""Compiled tasks: what they are given, what they share, and where they can't be kept."""

from __future__ import annotations

import array
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("numba")

import numba
from numba import carray

from gslrm.model import numba_tasks
from gslrm.model.numba_tasks import compiled, compiled_task, magnitude_bits, pointer, sources_digest, take_number
from gslrm.model.torch_threads import run_on_threads

RECORD = np.dtype([("next", "i8"), ("others", "i8"), ("last", "i8"), ("taken", "i8")])


def _count(data):  # type: ignore[no-untyped-def]
    given = carray(data, 1)[0]
    taken = carray(pointer(given.taken), given.last, np.int64)
    while True:
        number = take_number(data, 0)
        if number >= given.last:
            break
        taken[number] += 1
    take_number(data, 1)


def _where_no_folder_can_be_written(signature, cache=False, **options):  # type: ignore[no-untyped-def]
    if cache:
        raise RuntimeError("cannot cache function: no locator available")
    return numba.cfunc(signature, **options)


@pytest.mark.parametrize("kept", [True, False])
def test_every_number_is_taken_once_whoever_takes_it(kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kept:
        monkeypatch.setattr(numba_tasks, "_cfunc", _where_no_folder_can_be_written)
    task = compiled_task(_count, RECORD)
    for threads in (1, 3):
        taken = np.zeros(200_000, dtype=np.int64)
        given = array.array("q", (0, 0, len(taken), taken.ctypes.data))
        run_on_threads(task, given.buffer_info()[0], threads)
        assert (taken == 1).all()
        assert list(given)[:2] == [len(taken) + threads, threads]


def test_bits_of_magnitudes_order_as_they_do() -> None:
    @compiled
    def bits(value):  # type: ignore[no-untyped-def]
        return magnitude_bits(value)

    values = [0.0, 1e-40, 1e-3, 1.0, 3e38, math.inf, math.nan]
    for kind in (np.float32, np.float64):
        found = [bits(kind(sign * value)) for value in values for sign in (1, -1)]
        assert found[::2] == found[1::2] == sorted(set(found))


def test_another_source_has_another_digest(tmp_path: Path) -> None:
    module = ModuleType("module")
    module.__file__ = str(tmp_path / "module.py")
    digests = set()
    for text in ("a = 1\n", "a = 2\n"):
        Path(module.__file__).write_text(text)
        digests.add(sources_digest(module))
    assert len(digests | {sources_digest()}) == 3
