"""What a report can show of a failing case, made where the subject lives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cases.descriptors import Action, PassKind, StepCase, TrainingCase
from harness.config import Settings
from harness.engine.events import CaseFailed, Event, RunStarted
from harness.engine.judge import evidence_of
from harness.engine.plan import Task
from harness.engine.pool import run_pooled
from harness.engine.result import Call
from harness.engine.session import Session
from harness.files import json_value
from harness.findings.recorder import CaseRecorder
from harness.subject_spec import SubjectKind

BEFORE_FIX = "harness.subjects.known_bad.losses:LossBeforeFix"
AFTER_REPORT = "harness.subjects.known_bad.steps:StepAfterReport"


def _evidence(settings: Settings, task: Task) -> object:
    heard: list[Event] = []
    run_pooled(RunStarted((task,), settings), heard.append, CaseRecorder(settings))
    first, last = (event for event in heard if isinstance(event, CaseFailed))
    assert (first.shrunk, last.shrunk, first.evidence) == (False, True, None)
    json.dumps(json_value(last.evidence), allow_nan=False)
    return last.evidence


def test_a_losss_evidence_has_both_values_and_arrays_to_draw(tmp_path: Path) -> None:
    settings = Settings(loss=BEFORE_FIX, max_examples=20, workers=1, cases_dir=str(tmp_path))
    found = _evidence(settings, Task(SubjectKind.LOSS, "accuracy", "cpu-autocast-bfloat16"))
    assert isinstance(found, dict)
    assert abs(found["value"] - found["true value"]) > found["value bound"]
    assert -1.0 <= found["gradient cosine"] <= 1.0
    arrays = found["arrays"]
    assert {"rendering", "target", "mask", "gradient", "true gradient"} == set(arrays)
    assert len(arrays["target"]) == len(arrays["gradient"]) == 3
    assert len(arrays["mask"][0]) == len(arrays["target"][0])


def test_a_steps_evidence_is_its_timeline(tmp_path: Path) -> None:
    settings = Settings(step=AFTER_REPORT, max_examples=20, workers=1, cases_dir=str(tmp_path))
    found = _evidence(settings, Task(SubjectKind.STEP, "never-raises", "cpu-autocast-float16"))
    assert isinstance(found, dict)
    *_, last = found["timeline"]
    assert (last["raised"], last["moved"], last["should step"]) == ("AssertionError", False, False)
    assert last["scale"] > 0


@pytest.mark.slow
def test_a_trainings_and_two_ranks_evidence() -> None:
    session = Session(Settings(step="gslrm.testing.tiny_training:TinyTraining"))
    case = TrainingCase(actions=(PassKind.GOOD, PassKind.NAN_PIXELS))
    found = evidence_of(session, [Call(Task(SubjectKind.STEP, "counters", "float32"), case)])
    assert found is not None
    assert [row["moved"] for row in found["timeline"]] == [True, False]
    session.close()


def test_a_subject_that_raises_shows_what(tmp_path: Path) -> None:
    (tmp_path / "subject.py").write_text(
        "import torch\n"
        "def loss(x, y):\n"
        "    if x.shape[-1] != 16: raise RuntimeError('sixteen only')\n"
        "    return (x - y).square().mean()\n"
    )
    settings = Settings(
        loss=f"{tmp_path}/subject.py:loss", truth="mse", max_examples=5, workers=1, cases_dir=str(tmp_path / "cases")
    )
    found = _evidence(settings, Task(SubjectKind.LOSS, "finite", "float32"))
    assert isinstance(found, dict)
    assert found["raised"] == "RuntimeError: sixteen only"
    assert "value" not in found


def test_of_an_action_that_raises_nothing_after_it_is_shown() -> None:
    session = Session(Settings(step=AFTER_REPORT))
    case = StepCase(actions=(Action.NAN_LOSS, Action.GOOD))
    found = evidence_of(session, [Call(Task(SubjectKind.STEP, "never-raises", "cpu-autocast-float16"), case)])
    assert found is not None
    assert len(found["timeline"]) == 1
