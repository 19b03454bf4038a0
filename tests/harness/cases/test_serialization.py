from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cases.descriptors import Action, Hidden, LossCase, Mask, MaskValues, PassKind, StepCase, TrainingCase
from harness.cases.serialization import case_from_json, case_to_json
from harness.cases.strategies import loss_cases
from harness.cases.worlds import OptimizerKind, ParameterKind, Saving, World
from harness.errors import UsageError


@given(loss_cases())
def test_loss_cases_survive_a_file(case: LossCase) -> None:
    assert case_from_json(json.loads(json.dumps(case_to_json(case))), "a file") == case


_WORLDS = st.builds(
    World,
    st.sampled_from((1.0, 0.0, None)),
    st.sampled_from(OptimizerKind),
    st.sampled_from(ParameterKind),
    st.booleans(),
    st.sampled_from(Saving),
)


@given(st.builds(StepCase, actions=st.lists(st.sampled_from(Action)).map(tuple), world=_WORLDS))
def test_fault_programs_survive_a_file(case: StepCase) -> None:
    assert case_from_json(json.loads(json.dumps(case_to_json(case))), "a file") == case


@given(
    st.builds(
        TrainingCase,
        actions=st.lists(st.sampled_from(PassKind)).map(tuple),
        second_rank=st.lists(st.sampled_from(PassKind)).map(tuple),
    )
)
def test_trainings_programs_survive_a_file(case: TrainingCase) -> None:
    assert case_from_json(json.loads(json.dumps(case_to_json(case))), "a file") == case


def test_what_came_later_is_left_out_where_it_is_as_before_and_may_lack() -> None:
    before = {"kind", "height", "width", "batch", "views", "seed", "picture", "mask", "perturbation", "flaw"}
    plain = case_to_json(LossCase())
    assert set(plain) == before
    assert set(plain["mask"]) == {"kind", "pixels"}
    spoilt = LossCase(mask=Mask(values=MaskValues.BYTES), hidden=Hidden.NAN_TARGET)
    data = json.loads(json.dumps(case_to_json(spoilt)))
    assert (data["mask"]["values"], data["hidden"]) == ("bytes", "NaN in the target")
    assert case_from_json(data, "a file") == spoilt


def _changed(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    data = copy.deepcopy(case_to_json(LossCase()))
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "'kind' is one of"),
        ({"kind": "image"}, "'kind' is one of"),
        (_changed(("height",), "tall"), "height must be of type int"),
        (_changed(("height",), True), "height must be of type int"),
        (_changed(("height",), 0), "height is 0, but must lie in"),
        (_changed(("height",), ...), "lacks the field 'height'"),
        (_changed(("depth",), 3), "unknown field 'depth'"),
        (_changed(("mask",), 3), "mask must be an object"),
        (_changed(("hidden",), "zero"), "hidden is 'zero', but must be one of"),
        (_changed(("mask", "kind"), "star"), "mask: kind is 'star', but must be one of"),
        (_changed(("perturbation", "magnitude"), 2.0), "magnitude is 2.0, but must lie in"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(data: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        case_from_json(data, "x.json")


def test_a_file_from_before_there_were_worlds_is_read_and_written_as_it_was() -> None:
    old = {"kind": "step", "accumulation": 1, "scale_exponent": 10, "growth_interval": 2, "actions": ["good"]}
    case = case_from_json(old, "x.json")
    assert case == StepCase(actions=(Action.GOOD,))
    assert case_to_json(case) == old
    partial = case_from_json({**old, "world": {"scheduled": False}}, "x.json")
    assert partial == StepCase(actions=(Action.GOOD,), world=World(scheduled=False))
    with pytest.raises(UsageError, match="scheduled must be of type bool"):
        case_from_json({**old, "world": {"scheduled": 1}}, "x.json")
