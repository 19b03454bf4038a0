"""What scripts do with CUDA works in the pretence, and not without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.pretence import pretend_cuda
from tests.harness.pretence.use import Use
from tests.harness.pretence.uses import BY_TOPIC

USES = [
    pytest.param(use, id=f"{topic}: {use.call}", marks=[] if use.is_there() else pytest.mark.skip("not in this torch"))
    for topic, uses in BY_TOPIC.items()
    for use in uses
]


@pytest.fixture
def _pretence() -> Iterator[None]:
    with pretend_cuda():
        yield


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("_pretence")
@pytest.mark.parametrize("use", USES)
def test_it_works(use: Use) -> None:
    assert use.run()
