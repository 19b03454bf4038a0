"""Reports for the tests of renderings: no search is run, and in one every text is hostile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from harness.cases.descriptors import (
    Action,
    Case,
    LossCase,
    Mask,
    MaskKind,
    Perturbation,
    PerturbationKind,
    Picture,
    PictureKind,
    StepCase,
)
from harness.config import Settings
from harness.engine.events import (
    CaseFailed,
    Event,
    ProcessLost,
    RunFinished,
    RunStarted,
    SubjectLoaded,
    SubjectWarned,
    SubjectWarning,
    TaskFinished,
    WorstKept,
)
from harness.engine.judge import evidence_of
from harness.engine.plan import Task
from harness.engine.result import Call, Status, TaskResult
from harness.engine.session import Session
from harness.oracle.levels import Level
from harness.reports.environment import environment
from harness.reports.json_report import report
from harness.subject_spec import SubjectKind
from tests.harness.reports.made_up_run import FINITE, RANGE, made_up_events, run_of

HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>\"'`|]]>&amp; $\\frac$ [a](b)"
LOSS, STEP = "harness.subjects.known_bad.losses:LossBeforeFix", "harness.subjects.known_bad.steps:StepAfterReport"
_SMOOTH = Picture(PictureKind.SMOOTH)
_SMALLEST = LossCase(11, 11, picture=_SMOOTH, perturbation=Perturbation(PerturbationKind.OFFSET, 0.1), seed=1)
_WORST = LossCase(14, 20, 2, picture=_SMOOTH, mask=Mask(MaskKind.DISC, 80), perturbation=_SMALLEST.perturbation)
_PROGRAM = StepCase(actions=(Action.GOOD, Action.NAN_LOSS))


@cache
def convicted_loss() -> dict[str, Any]:
    """A range that is left under two precisions, and an inaccuracy; the evidence is real, no search is run."""
    tasks = [Task(SubjectKind.LOSS, "range", name) for name in ("float32", "cpu-autocast-bfloat16")]
    tasks.append(Task(SubjectKind.LOSS, "accuracy", "float32"))
    levels = (Level.ROUNDING, Level.FAULT, Level.DEFINITION)
    return _convicted(Settings(loss=LOSS), dict(zip(tasks, levels, strict=True)), _SMALLEST, _WORST)


@cache
def convicted_step() -> dict[str, Any]:
    """A step that raises, and whose schedule runs on."""
    tasks = [Task(SubjectKind.STEP, name, "cuda-policy-float16") for name in ("never-raises", "schedule")]
    return _convicted(Settings(step=STEP), dict.fromkeys(tasks, Level.FAULT), _PROGRAM, None)


def acquitted_loss() -> dict[str, Any]:
    """Nothing is violated, and one property was not run."""
    started, *_ = made_up_events("cases")
    held, unrun = (
        TaskResult(RANGE, Status.HELD, 4, 0.1, 0.25),
        TaskResult(FINITE, Status.NOT_RUN, message="out of time"),
    )
    return report(run_of(started, TaskFinished(RANGE, held), TaskFinished(FINITE, unrun), RunFinished(())))


def _convicted(settings: Settings, levels: Mapping[Task, Level], case: Case, worst: Case | None) -> dict[str, Any]:
    session = Session(settings)
    events: list[Event] = [RunStarted(tuple(levels), settings, environment()), *session.loaded()]
    for task, level in levels.items():
        message = f"what is seen of {task.property}: the schedule stands at step 1"
        evidence = evidence_of(session, [Call(task, case)])
        events.append(CaseFailed(task, case, message, shrunk=True, evidence=evidence))
        if worst is not None:
            events.append(WorstKept(task, worst, message, evidence_of(session, [Call(task, worst)], brief=True)))
        result = TaskResult(
            task, Status.VIOLATED, 7, 0.5, -1e-5, message, case, level=level, worst_case=worst, badness=2
        )
        events.append(TaskFinished(task, result))
    return report(run_of(*events, RunFinished(())))


def hostile_report() -> dict[str, Any]:
    """Nothing is run; whatever a subject, its path or its words could be is :data:`HOSTILE`."""
    return report(run_of(*map(_hostile, made_up_events(HOSTILE))))


def _hostile(event: Event) -> Event:
    if isinstance(event, RunStarted):
        settings = replace(event.settings, loss=HOSTILE, arguments={"a": HOSTILE}, call=HOSTILE)
        return replace(event, settings=settings, environment={HOSTILE: HOSTILE}, left_out=HOSTILE)
    if isinstance(event, SubjectLoaded):
        return SubjectLoaded(SubjectKind.LOSS, HOSTILE, HOSTILE, table=((HOSTILE, HOSTILE),), source=(HOSTILE, 3))
    if isinstance(event, TaskFinished):
        return replace(event, result=replace(event.result, message=HOSTILE))
    if isinstance(event, SubjectWarned):
        return SubjectWarned(((SubjectWarning(HOSTILE, HOSTILE, HOSTILE), 2),))
    if isinstance(event, ProcessLost):
        return replace(event, last_words=HOSTILE)
    if isinstance(event, CaseFailed) and event.shrunk:
        return replace(event, evidence={"timeline": [_ROW]})
    return event


_ROW = {
    "action": HOSTILE, "loss": 1.0, "stepped": None, "reason": HOSTILE, "moved": True, "should step": False,
    "why": HOSTILE, "gradient norm": None, "scale": 1.0, "growth tracker": 0, "learning rate": 0.5, "passes": 1,
    "updates": 0, "raised": HOSTILE,
}  # fmt: skip
