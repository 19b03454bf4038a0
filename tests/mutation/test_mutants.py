"""Mutants are the library's, each program once, and named so that they are found again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.tiny_project import FILE, MODULE, tiny_project

pytest.importorskip("cosmic_ray", reason="makes the mutants: pip install --no-deps cosmic-ray parso stevedore")


@pytest.fixture(scope="module")
def mutants(tmp_path_factory: pytest.TempPathFactory) -> list[Mutant]:
    return mutants_of(tiny_project(tmp_path_factory.mktemp("tiny")), FILE)


def test_a_mutant_says_what_differs_and_where(mutants: list[Mutant]) -> None:
    (plus,) = [one for one in mutants if one.added == "return a - 1"]
    assert plus.key == (FILE, "untested", "return a + 1", "return a - 1")
    assert MODULE.splitlines()[plus.line - 1].strip() == plus.removed
    assert plus.code == MODULE.replace("a + 1", "a - 1")


def test_each_program_is_made_once_and_none_is_the_module(mutants: list[Mutant]) -> None:
    codes = [one.code for one in mutants]
    assert len(set(codes)) == len(codes)
    assert MODULE not in codes


def test_annotations_which_are_never_evaluated_are_left_alone(mutants: list[Mutant]) -> None:
    assert not [one for one in mutants if one.removed.startswith("def ")]


def test_the_key_survives_lines_above_it(mutants: list[Mutant], tmp_path: Path) -> None:
    root = tiny_project(tmp_path)
    (root / FILE).write_text(MODULE.replace("from __future__", "# A comment.\n\nfrom __future__"))
    assert {one.key for one in mutants_of(root, FILE)} == {one.key for one in mutants}


def test_a_larger_sample_holds_the_smaller(mutants: list[Mutant], tmp_path: Path) -> None:
    root = tiny_project(tmp_path)
    few, more = mutants_of(root, FILE, 3, seed=5), mutants_of(root, FILE, 6, seed=5)
    assert len(few) == 3
    assert set(few) < set(more)
    assert few == mutants_of(root, FILE, 3, seed=5) != mutants_of(root, FILE, 3, seed=6)
    assert len(more) == 6
    assert {one.code for one in more} < {one.code for one in mutants}
