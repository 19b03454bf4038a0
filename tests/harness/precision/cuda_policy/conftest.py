from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.precision.cuda_policy import emulation
from tests.harness.precision.cuda_policy.traces import autocast_state


@pytest.fixture
def leaves_no_trace() -> Iterator[None]:
    before = autocast_state()
    yield
    assert autocast_state() == before
    assert emulation._INSTALLATION._users == 0
