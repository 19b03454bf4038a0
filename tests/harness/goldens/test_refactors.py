"""The project's goldens catch wrong refactors of its code, and let right ones pass."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.goldens.checking import check
from harness.goldens.folder import GoldenFolder
from harness.goldens.outcome import Outcome, Status
from harness.reports.golden_text import outcome_lines
from harness.subjects.import_root import subject_root
from tests.harness.goldens.refactors import RIGHT, ROOT, WRONG, Refactor


def _outcomes(root: Path, refactor: Refactor) -> list[Outcome]:
    with subject_root(root):
        goldens = GoldenFolder(ROOT / "golden")
        found = [outcome for pattern in refactor.goldens for outcome in check(goldens, pattern)]
    assert any(outcome.status is not Status.SKIPPED for outcome in found)
    return found


def _failures(outcomes: list[Outcome]) -> str:
    lines = (outcome_lines(o) for o in outcomes if o.status in (Status.FAILED, Status.MISSING))
    return "\n".join(line for lines_ in lines for line in lines_)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_refactor_is_caught(tmp_path: Path, name: str) -> None:
    if WRONG[name].path == "numba":
        pytest.importorskip("numba")
    outcomes = _outcomes(WRONG[name].apply(tmp_path), WRONG[name])
    caught = [outcome for outcome in outcomes if outcome.status is Status.FAILED]
    assert caught
    assert all(outcome.deviations for outcome in caught), "caught by a value, not because it doesn't run"


def test_what_the_wrong_ones_are_edits_of_passes() -> None:
    patterns = tuple(sorted({pattern for refactor in WRONG.values() for pattern in refactor.goldens}))
    assert not _failures(_outcomes(ROOT, Refactor("", "", "", patterns)))


@pytest.mark.parametrize("name", [name for name in RIGHT if name != "compiled"])
def test_a_right_refactor_passes(tmp_path: Path, name: str) -> None:
    assert not _failures(_outcomes(RIGHT[name].apply(tmp_path), RIGHT[name]))


@pytest.mark.slow
def test_a_compiled_loss_passes(tmp_path: Path) -> None:
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("torch.compile needs a C++ compiler, and there is none")
    assert not _failures(_outcomes(RIGHT["compiled"].apply(tmp_path), RIGHT["compiled"]))
