from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from harness.precision.cuda_policy import autocast_lists, emulation
from tests.harness.rounding.traces import autocast_state


@pytest.fixture
def leaves_no_trace() -> Iterator[None]:
    before = autocast_state()
    yield
    assert autocast_state() == before
    assert emulation._INSTALLATION._users == 0


@pytest.fixture
def torch_with_unknown_ops(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch whose dispatcher casts `exp` and whose header doesn't list it; and the reverse of `sinc`, and of an op
    that there isn't.
    """
    lists = autocast_lists.read_autocast_lists()
    without = tuple(op for op in lists.float32 if op != "exp")
    odd = replace(lists, float32=(*without, "sinc", "no_such_op"))
    monkeypatch.setattr(emulation, "read_autocast_lists", lambda: odd)
    monkeypatch.setattr(emulation, "_INSTALLATION", emulation._Installation())
