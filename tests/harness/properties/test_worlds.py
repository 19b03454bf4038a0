"""Each part of a step's world convicts a step that is wrong there alone, and no step that is right."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cases.descriptors import Action, StepCase
from harness.cases.worlds import OptimizerKind, ParameterKind, Saving, World
from harness.kinds.registry import load_subject
from harness.kinds.step_worlds import first_programs
from harness.oracle.policies import PROMISED
from harness.oracle.step_world import GRADIENT, NEAR, gradients_of, norm_of, parameters_of
from harness.precision import precisions_named
from harness.properties import STEP_PROPERTIES
from harness.subject_spec import SubjectKind, SubjectSpec
from harness.subjects.step import StepFactory, load_fed_step
from harness.trials.fed_step import FedStepTrial
from harness.trials.observation import observe_program
from harness.trials.step_policies import with_clips
from tests.harness.judging import judged

_MUTANTS = str(Path(__file__).with_name("world_mutants.py"))
(_FP16,) = precisions_named(["cpu-autocast-float16"])
_PROPERTIES = {property_.name: property_ for property_ in STEP_PROPERTIES}

Where = Callable[[StepCase], bool]


def _parameters(*kinds: ParameterKind) -> Where:
    return lambda case: case.world.parameters in kinds


def _clip(norm: float | None) -> Where:
    return lambda case: case.world.clip_norm == norm


_CONVICTIONS: list[tuple[str, str, Where]] = [
    ("ClipsAtOne", "right-update", lambda case: case.world.clip_norm in (0.25, 4.0)),
    ("ZeroClipsAll", "right-update", lambda case: not case.world.clip_norm),
    ("NoneClipsAtOne", "right-update", _clip(None)),
    ("LimitTooHigh", "drops-bad-windows", lambda case: Action.OVER in case.actions),
    ("ClipsElements", "right-update", _parameters(ParameterKind.UNEQUAL)),
    ("LooksAtTheFirst", "drops-bad-windows", _parameters(ParameterKind.ONE_BAD)),
    ("FillsInZeros", "right-update", _parameters(ParameterKind.UNUSED, ParameterKind.FROZEN)),
    ("NeedsAllGradients", "never-raises", _parameters(ParameterKind.UNUSED, ParameterKind.FROZEN)),
    ("OneRate", "right-update", _parameters(ParameterKind.GROUPS)),
    ("KnowsTheFirstGroups", "right-update", _parameters(ParameterKind.LATE)),
    ("TrustsFused", "finite-parameters", lambda case: case.world.optimizer.fused),
    ("ReadsMomenta", "never-raises", lambda case: case.world.optimizer.adam or case.world.optimizer.fused),
    ("ForeachTwice", "right-update", lambda case: case.world.optimizer.foreach),
    ("LogsTheRate", "never-raises", lambda case: not case.world.scheduled),
    ("HalvesThree", "right-update", lambda case: case.accumulation == 3),
    ("StopsCounting", "schedule", lambda case: case.micro_steps >= 40),
    ("CapsTheScale", "scale", lambda case: case.scale_exponent == 24),
    ("FloorsTheScale", "scale", lambda case: case.scale_exponent == -2),
    ("RemembersItself", "resume", lambda case: case.world.saving is Saving.FILE),
    ("SavesObjects", "resume", lambda case: case.world.saving is Saving.FILE),
]


def _factory(name: str) -> StepFactory:
    """Of a step that promises all, so that what it does need not be found out."""
    factory = load_fed_step(SubjectSpec(name if ":" in name else f"{_MUTANTS}:{name}"))
    return with_clips(replace(factory, clips=(1.0, None)))


def _found_out(name: str) -> StepFactory:
    factory = load_subject(SubjectKind.STEP, SubjectSpec(f"{_MUTANTS}:{name}"))
    assert isinstance(factory, StepFactory)
    return factory


def _convicting(factory: StepFactory, name: str) -> list[StepCase]:
    """Of the programs with which every search begins, whatever its seed, those that convict."""
    property_ = _PROPERTIES[name]
    # Of the pairs in the simplest world the first do: an action after a good one.
    first = [
        case
        for case in first_programs(property_.actions, factory, 100)
        if len(case.actions) != 2 or case.actions[0] is property_.actions[0]
    ]
    return [case for case in first if not judged(SubjectKind.STEP, factory, property_, _FP16, case).holds]


@pytest.mark.parametrize(("mutant", "name", "there"), _CONVICTIONS, ids=lambda value: getattr(value, "__name__", value))
def test_what_is_wrong_in_one_world_is_convicted_there_and_nowhere_else(mutant: str, name: str, there: Where) -> None:
    convicting = _convicting(_factory(mutant), name)
    assert convicting
    assert [case for case in convicting if not there(case)] == []


def test_an_average_is_updated_with_the_parameters_alone() -> None:
    assert _convicting(_found_out("averages_always"), "drops-bad-windows")
    assert _convicting(_found_out("averages"), "drops-bad-windows") == []


def test_every_search_meets_every_part_of_the_world() -> None:
    first = first_programs(tuple(Action), _factory("SavesObjects"), 100)
    worlds = [case.world for case in first]
    assert {world.clip_norm for world in worlds} == {0.0, 0.25, 1.0, 4.0, None}
    assert {world.optimizer for world in worlds} == set(OptimizerKind)
    assert {world.parameters for world in worlds} == set(ParameterKind)
    assert {world.saving for world in worlds} == set(Saving)
    assert {world.scheduled for world in worlds} == {True, False}
    assert {case.accumulation for case in first} == {1, 3}
    assert {-2, 24} <= {case.scale_exponent for case in first}
    # The shortest come first, in the simplest world.
    lengths = [len(case.actions) for case in first]
    assert lengths == sorted(lengths[: lengths.index(48)]) + lengths[lengths.index(48) :]
    assert all(case == StepCase(actions=case.actions) for case in first[: lengths.index(48)])


_PARTS = [
    *(World(clip_norm=norm) for norm in (0.0, 0.25, 4.0, None)),
    *(World(optimizer=kind) for kind in OptimizerKind),
    *(World(parameters=kind) for kind in ParameterKind),
    World(scheduled=False),
    World(saving=Saving.FILE),
]


@pytest.mark.parametrize("precision", ["float32", "cpu-autocast-float16", "cpu-autocast-bfloat16"])
def test_our_step_is_right_in_every_world(precision: str) -> None:
    (named,) = precisions_named([precision])
    factory = _factory("gslrm.training.amp_step:AmpStep")
    program = (*Action, Action.GOOD, Action.LARGE, Action.RESTORE, Action.GOOD)
    wrong = []
    for world, (accumulation, exponent) in itertools.product(_PARTS, ((1, 10), (3, 14))):
        case = StepCase(accumulation, exponent, actions=program, world=world)
        for seen in observe_program(FedStepTrial(factory, named, case).act, case.actions * accumulation):
            verdicts = [property_.verdict(seen) for property_ in STEP_PROPERTIES]
            wrong += [(case, verdict.message) for verdict in verdicts if not verdict.holds]
    assert wrong == []


def test_what_lies_near_the_limit_stays_clear_of_it() -> None:
    """Else rounding would decide whether a window is dropped."""
    for kind, norm in itertools.product(ParameterKind, (0.25, 1.0, 4.0)):
        policies = PROMISED.handed(norm, promised=True)
        reached = [spec for spec in parameters_of(kind) if spec.used]
        micro = [gradients_of(action, kind, reached, policies) for action in (*NEAR, *GRADIENT)]
        elements = {spec.name: spec.elements for spec in reached}
        assert policies.norm_limit is not None
        for length in (1, 2, 3, 4):
            for window in itertools.combinations_with_replacement(micro, length):
                mean = {name: sum(gradients[name] for gradients in window) / length for name in elements}
                assert abs((norm_of(mean, elements) or 0.0) / policies.norm_limit - 1.0) > 2e-3
