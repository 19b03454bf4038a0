"""A run as its events would tell it, for the tests of reports: nothing is run."""

from __future__ import annotations

import math

from harness.cases.descriptors import LossCase
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
)
from harness.engine.plan import Task
from harness.engine.result import Call, Status, TaskResult
from harness.oracle.levels import Level
from harness.reports.run_model import RunModel
from harness.subject_spec import SubjectKind

RANGE, FINITE = (Task(SubjectKind.LOSS, name, "float32") for name in ("range", "finite"))
_WARNINGS = [SubjectWarning("UserWarning", f"[odd] {n}", "m.py:1") for n in (2, 1)] + [
    SubjectWarning("FutureWarning", "soon", "")
]
CASE, WORST = LossCase(seed=7), LossCase(seed=9)


def made_up_events(cases: str) -> list[Event]:
    """One property violated, with evidence and infinite numbers, and one held; its case files would be in ``cases``."""
    settings = Settings(loss="m:L", truth="mse", seed=3, cases_dir=cases)
    violated = TaskResult(
        RANGE,
        Status.VIOLATED,
        5,
        0.5,
        -math.inf,
        "the loss is [-inf]",
        CASE,
        earlier=(Call(FINITE, CASE),),
        level=Level.FAULT,
        worst_case=WORST,
        badness=math.inf,
    )
    return [
        RunStarted((RANGE, FINITE), settings, {"torch": "2"}, "all else left out: no reason."),
        SubjectLoaded(
            SubjectKind.LOSS,
            "[mse]",
            "In float64 this is [mse].",
            another=True,
            data_range=1.0,
            data_range_words="data_range 1, [so]",
        ),
        CaseFailed(RANGE, CASE, "the loss is [-inf]", shrunk=False),
        TaskFinished(FINITE, TaskResult(FINITE, Status.HELD, 4, 0.1, 0.25)),
        SubjectWarned(((_WARNINGS[0], 2), (_WARNINGS[2], 1))),
        CaseFailed(RANGE, CASE, "the loss is [-inf]", shrunk=True, evidence={"value": -math.inf, "arrays": {}}),
        TaskFinished(RANGE, violated),
        SubjectWarned(((_WARNINGS[1], 3),)),
        ProcessLost(7, RANGE, "first [line]\nlast"),
        RunFinished(()),
    ]


def run_of(*events: Event) -> RunModel:
    """The model that has heard these events."""
    model = RunModel()
    for event in events:
        model(event)
    return model
