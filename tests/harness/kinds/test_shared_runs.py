"""One run, many verdicts: the properties of steps share the runs of their programs."""

from __future__ import annotations

import pytest

from harness.cases.descriptors import Action, PassKind
from harness.config import Settings
from harness.engine.events import CaseStarted, Event
from harness.engine.plan import Task
from harness.engine.run import TaskRunner
from harness.kinds.fed_steps import FedStepBench
from harness.kinds.trainings import TrainingBench
from harness.properties import STEP_PROPERTIES
from harness.subject_spec import SubjectKind

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
