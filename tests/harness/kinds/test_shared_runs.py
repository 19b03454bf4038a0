"""One run, many verdicts: the properties of steps share the runs of their programs."""

from __future__ import annotations

import pytest

from harness.cases.descriptors import Action, PassKind
from harness.cases.strategies import TRAINING_SCALE_EXPONENTS
from harness.config import Settings
from harness.engine.events import CaseStarted, Event
from harness.engine.plan import Task
from harness.engine.run import TaskRunner
from harness.kinds.fed_steps import FedStepBench
from harness.kinds.rank_pairs import RankBench
from harness.kinds.trainings import TrainingBench
from harness.properties import RANKS_AGREE, STEP_PROPERTIES
from harness.subject_spec import SubjectKind, SubjectSpec
from harness.subjects.training import TrainingFactory, load_training

STEP = "gslrm.training.amp_step:AmpStep"
OUR_TRAINING = "gslrm.testing.tiny_training:TinyTraining"


def _bench(runner: TaskRunner, name: str) -> FedStepBench | TrainingBench:
    bench = runner.session.bench(runner.session.kind(Task(SubjectKind.STEP, name, "float32")))
    assert isinstance(bench, FedStepBench | TrainingBench)
    return bench


@pytest.mark.parametrize("step", [STEP, OUR_TRAINING])
def test_a_second_property_runs_nothing_anew(step: str) -> None:
    runner = TaskRunner(Settings(step=step, max_examples=12))
    run = []
    for name in ("counters", "schedule"):
        runner.run(Task(SubjectKind.STEP, name, "float32"), lambda _: None)
        run.append(len(_bench(runner, name)._runs))
    assert run[0] == run[1] > 12


@pytest.mark.parametrize("step", [STEP, OUR_TRAINING])
def test_a_property_draws_from_its_own_actions_whatever_was_drawn_before(step: str) -> None:
    """Each of its cases is one that it speaks of, and the same as without another property before it."""
    property_ = next(one for one in STEP_PROPERTIES if one.name == "no-gradients")
    its_own: set[Action | PassKind] = {*(property_.actions if step == STEP else property_.passes)}

    def cases(*names: str) -> list[object]:
        runner = TaskRunner(Settings(step=step, max_examples=40))
        started: list[object] = []

        def listen(event: Event) -> None:
            if isinstance(event, CaseStarted) and event.task.property == property_.name:
                started.append(event.case)
                assert {*event.case.actions} <= its_own  # type: ignore[union-attr]

        for name in names:
            runner.run(Task(SubjectKind.STEP, name, "float32"), listen)
        return started

    alone = cases(property_.name)
    assert len(alone) > 10
    assert cases("counters", property_.name) == alone


def test_two_ranks_meet_every_pass_beside_a_good_one_first() -> None:
    factory = load_training(SubjectSpec(OUR_TRAINING))
    assert isinstance(factory, TrainingFactory)
    plan = RankBench(factory).plan(RANKS_AGREE, 100)
    met = {(*case.actions, *case.second_rank) for case in plan.first}
    for kind in RANKS_AGREE.passes:
        assert {(PassKind.GOOD, kind), (kind, PassKind.GOOD)} <= met
    assert plan.examples == 6


def test_a_training_meets_every_fault_in_one_window_with_a_good_pass_and_an_overflow() -> None:
    factory = load_training(SubjectSpec(OUR_TRAINING))
    assert isinstance(factory, TrainingFactory)
    property_ = next(one for one in STEP_PROPERTIES if one.name == "drops-bad-windows")
    first = TrainingBench(factory).plan(property_, 100).first
    together = {case.actions for case in first if case.accumulation == 2}
    for kind in {*property_.passes} - {PassKind.GOOD, PassKind.RESTORE}:
        assert {(PassKind.GOOD, kind), (kind, PassKind.GOOD)} <= together
    assert {case.actions for case in first if case.scale_exponent == max(TRAINING_SCALE_EXPONENTS)} == {
        (PassKind.GOOD,), (PassKind.GOOD, PassKind.GOOD)
    }  # fmt: skip
