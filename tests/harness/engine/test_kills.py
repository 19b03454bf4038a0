"""A few kills at random moments; ``python -m tests.harness.engine.kill_campaign --times 200`` is the long version."""

from __future__ import annotations

import pytest

from tests.harness.engine.kill_campaign import campaign

TIMES = 6


@pytest.mark.timeout(300)
def test_nothing_is_lost_and_nothing_is_left() -> None:
    assert campaign(range(1000, 1000 + TIMES)).total() == TIMES
