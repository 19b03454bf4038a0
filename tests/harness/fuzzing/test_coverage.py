"""What of the space of cases was run: the counts, and what no case had."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from harness.cases.descriptors import (
    Action,
    LossCase,
    Mask,
    MaskKind,
    PassKind,
    Perturbation,
    PerturbationKind,
    StepCase,
    TrainingCase,
    with_actions,
)
from harness.cases.strategies import loss_cases
from harness.cases.worlds import OptimizerKind, World
from harness.fuzzing.coverage import SPACE, Coverage, coverage_from_json, features_of, whole_programs

PLAIN = LossCase()
DISC = LossCase(48, 20, 2, 3, mask=Mask(MaskKind.DISC, 40), perturbation=Perturbation(PerturbationKind.NOISE, 1e-5))


def _counts(coverage: Coverage, kind: str) -> dict[str, dict[str, int]]:
    return {feature: dict(values) for of, feature, values in coverage.rows() if of == kind}


def test_counts_are_those_of_the_cases() -> None:
    coverage = Coverage()
    coverage.count([PLAIN, DISC, replace(PLAIN, seed=1)])
    assert coverage.cases == {"loss": 3}
    counts = _counts(coverage, "loss")
    assert counts["mask"] == {"full": 2, "disc": 1}
    assert counts["mask pixels"] == {"10 to 99": 1}  # a full mask has no pixels to choose
    assert counts["perturbation"] == {"none": 2, "noise": 1}
    assert counts["magnitude"] == {"0.000001 to 0.0001": 1}
    assert counts["longer side"] == {"11 to 16": 2, "33 to 64": 1}
    assert counts["images"] == {"1": 2, "5 and more": 1}
    assert counts["flaw"] == {"none": 3}


@pytest.mark.parametrize(
    ("side", "band"), [(11, "11 to 16"), (16, "11 to 16"), (17, "17 to 32"), (512, "129 and more")]
)
def test_bands_have_both_their_ends(side: int, band: str) -> None:
    assert dict(features_of(LossCase(side, 11))[1])["longer side"] == band


def test_a_program_counts_for_each_of_its_actions_once() -> None:
    coverage = Coverage()
    world = World(None, OptimizerKind.ADAMW, scheduled=False)
    coverage.count([StepCase(actions=(Action.GOOD, Action.NAN_LOSS, Action.GOOD)), StepCase(actions=(), world=world)])
    counts = _counts(coverage, "step")
    assert counts["action"] == {"good": 1, "nan loss": 1}
    assert counts["length"] == {"1": 1, "2 to 3": 1}
    assert counts["optimizer"] == {"plain SGD": 1, "plain AdamW": 1}
    assert counts["clip norm"] == {"1": 1, "none": 1}
    assert counts["schedule"] == {"a schedule": 1, "no schedule": 1}


def test_the_second_rank_is_seen() -> None:
    coverage = Coverage()
    coverage.count([TrainingCase(actions=(PassKind.GOOD,), second_rank=(PassKind.OVERFLOW,))])
    counts = _counts(coverage, "training")
    assert counts["action"] == {"good": 1, "overflow": 1}
    assert counts["ranks"] == {"two": 1}


def test_what_no_case_had_is_named() -> None:
    coverage = Coverage()
    coverage.count([PLAIN, DISC])
    never = {feature: values for kind, feature, values in coverage.never_run(own_pictures=False) if kind == "loss"}
    assert list(never["mask"]) == ["pixel", "line", "blob", "border", "islands", "empty"]
    assert "own" in {f: v for _, f, v in coverage.never_run(own_pictures=True)}["mask"]
    assert "noise" not in never["perturbation"]
    assert "offset" in never["perturbation"]
    # Nothing is said of steps where there were none.
    assert {kind for kind, *_ in coverage.never_run(False)} == {"loss"}


@given(loss_cases())
def test_each_drawn_case_has_values_of_the_space(case: LossCase) -> None:
    kind, features = features_of(case)
    assert all(value in SPACE[kind][feature] for feature, value in features)


def test_it_adds_up_and_reads_back() -> None:
    one, other, both = Coverage(), Coverage(), Coverage()
    one.count([PLAIN, StepCase(actions=(Action.GOOD,))])
    other.count([DISC])
    both.count([PLAIN, StepCase(actions=(Action.GOOD,)), DISC])
    one.add(coverage_from_json(other.as_json()))
    assert one.as_json() == both.as_json()
    assert list(one.never_run(False)) == list(both.never_run(False))


@pytest.mark.parametrize(
    "data", [[], {"rank": {}}, {"loss": {"cases": -1}}, {"loss": {"colour": {}}}, {"loss": {"mask": 1}}]
)
def test_other_data_is_refused(data: object) -> None:
    with pytest.raises(ValueError, match=r"coverage|count"):
        coverage_from_json(data)


def test_a_program_that_grows_is_one() -> None:
    """As they are begun: with each action anew; and again from the first for another property."""
    long = StepCase(actions=(Action.GOOD, Action.LARGE, Action.GOOD))
    grown = [with_actions(long, long.actions[:n]) for n in (1, 2, 3)]
    other = StepCase(actions=(Action.LARGE,))
    assert list(whole_programs([*grown, other, *grown, PLAIN, PLAIN, DISC])) == [long, other, PLAIN, DISC]
    # The same actions in another world are another program.
    elsewhere = replace(grown[2], world=World(scheduled=False))
    assert list(whole_programs([grown[1], elsewhere])) == [grown[1], elsewhere]
