"""A property's row stands beside its function: the function has its name, and its docstring is the claim."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pkgutil import iter_modules
from types import SimpleNamespace

import pytest

from harness import properties
from harness.errors import ExitCode, UsageError
from harness.properties import LOSS_PROPERTIES, RANKS_AGREE, STEP_PROPERTIES, LossProperty, StepProperty
from harness.properties.claim import claim_of
from harness.properties.loss_property import loss_property
from harness.properties.ranks import RanksProperty
from tests.harness.properties import broken_trainings, input_mutants, instance_mutants, mutants

Row = LossProperty | StepProperty | RanksProperty
ALL = (*LOSS_PROPERTIES, *STEP_PROPERTIES, RANKS_AGREE)


@pytest.mark.parametrize("row", ALL, ids=lambda row: row.name)
def test_name_and_claim_are_the_functions(row: Row) -> None:
    assert row.check.__name__ in (row.name.replace("-", "_"), f"{row.name}_")
    assert row.check.__doc__ is not None
    assert "".join(row.check.__doc__.split()).startswith("".join(row.claim.split()))
    # One sentence or two, whole; it may begin with a name.
    assert re.fullmatch(r"([A-Z]|\w+_\w+ )[^\n]{20,200}\.", row.claim)


def test_no_two_have_one_name() -> None:
    for rows in (LOSS_PROPERTIES, (*STEP_PROPERTIES, RANKS_AGREE)):
        assert len({row.name for row in rows}) == len(rows)


def _mutant(row: Row) -> str:
    return "break_" + row.name.replace("-", "_")


@pytest.mark.parametrize("row", [*LOSS_PROPERTIES, *STEP_PROPERTIES], ids=lambda row: row.name)
def test_each_has_a_loss_or_a_step_that_breaks_it(row: Row) -> None:
    assert any(hasattr(module, _mutant(row)) for module in (mutants, input_mutants, instance_mutants))


@pytest.mark.parametrize("row", [*STEP_PROPERTIES, RANKS_AGREE], ids=lambda row: row.name)
def test_each_has_a_training_that_breaks_it(row: Row) -> None:
    assert hasattr(broken_trainings, _mutant(row))


def test_each_stands_under_its_functions_name_and_none_is_left_out_of_the_tables() -> None:
    modules = [import_module(f"{properties.__name__}.{found.name}") for found in iter_modules(properties.__path__)]
    made = {
        (module.__name__, name): row
        for module in modules
        for name, row in vars(module).items()
        if isinstance(row, Row) and row.check.__module__ == module.__name__
    }
    assert {(row.check.__module__, row.check.__name__): row for row in ALL} == made


def test_a_property_without_a_claim_is_none() -> None:
    def silent(trial):  # type: ignore[no-untyped-def]
        return None

    with pytest.raises(TypeError, match="the property silent makes no claim"):
        loss_property()(silent)


@pytest.mark.parametrize(("optimize", "refused"), [(0, False), (1, False), (2, True), (3, True)])
def test_docstrings_are_there_unless_two_are_asked_for(
    optimize: int, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.properties.claim.sys", SimpleNamespace(flags=SimpleNamespace(optimize=optimize)))
    check = LOSS_PROPERTIES[0].check
    if refused:
        with pytest.raises(UsageError, match="leaves out docstrings"):
            claim_of(check)
    else:
        assert claim_of(check) == LOSS_PROPERTIES[0].claim


def test_python_without_docstrings_is_told_in_a_sentence() -> None:
    ended = subprocess.run([sys.executable, "-OO", "-m", "harness", "check"], capture_output=True, text=True)
    assert ended.returncode == ExitCode.USAGE
    assert "leaves out docstrings" in ended.stderr
    assert "Traceback" not in ended.stderr
