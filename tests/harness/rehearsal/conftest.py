"""The process that the tests' scripts are forked from, shared."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.rehearsal.processes import Processes


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    with Processes() as these:
        yield these
