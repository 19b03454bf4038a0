"""A property's row stands beside its function: the function has its name, and its docstring is the claim."""

from __future__ import annotations

import re

import pytest

from harness.properties import LOSS_PROPERTIES, RANKS_AGREE, STEP_PROPERTIES
from harness.properties.loss_property import loss_property
from tests.harness.properties import broken_trainings, mutants

ALL = (*LOSS_PROPERTIES, *STEP_PROPERTIES, RANKS_AGREE)


@pytest.mark.parametrize("row", ALL, ids=lambda row: row.name)
def test_name_and_claim_are_the_functions(row) -> None:  # type: ignore[no-untyped-def]
    assert row.check.__name__ in (row.name.replace("-", "_"), f"{row.name}_")
    assert row.check.__doc__ is not None
    assert "".join(row.check.__doc__.split()).startswith("".join(row.claim.split()))
    # One sentence or two, whole; it may begin with a name.
    assert re.fullmatch(r"([A-Z]|\w+_\w+ )[^\n]{20,200}\.", row.claim)


def test_no_two_have_one_name() -> None:
    for rows in (LOSS_PROPERTIES, (*STEP_PROPERTIES, RANKS_AGREE)):
        assert len({row.name for row in rows}) == len(rows)


@pytest.mark.parametrize("row", ALL, ids=lambda row: row.name)
def test_each_has_something_that_breaks_it(row) -> None:  # type: ignore[no-untyped-def]
    name = "break_" + row.name.replace("-", "_")
    assert any(found.startswith(name) for module in (mutants, broken_trainings) for found in vars(module))


def test_a_property_without_a_claim_is_none() -> None:
    def silent(trial):  # type: ignore[no-untyped-def]
        return None

    with pytest.raises(TypeError, match="the property silent makes no claim"):
        loss_property()(silent)
