"""The process that the tests' scripts are forked from, shared, and a script that is rehearsed by its text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.rehearsal.faults import Fault
from harness.rehearsal.places import Script
from harness.rehearsal.processes import Processes
from harness.rehearsal.rehearsal import Rehearsal, rehearse
from tests.harness.rehearsal.recipe import Rehearse


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    with Processes() as these:
        yield these


@pytest.fixture
def rehearsed(processes: Processes, tmp_path: Path) -> Rehearse:
    """Rehearses a script of this text."""

    def rehearsed(text: str, faults: tuple[Fault, ...] = tuple(Fault), *more: str) -> Rehearsal:
        path = tmp_path / "train.py"
        path.write_text(text)
        script = Script(str(path), arguments=("--out", str(tmp_path), *more))
        return rehearse(script, faults, pretend_cuda=False, budget=300.0, processes=processes)

    return rehearsed
