"""What a report can show of a failing case, made where the subject lives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.cases.descriptors import (
    Action,
    LossCase,
    Mask,
    MaskKind,
    PassKind,
    Perturbation,
    PerturbationKind,
    Picture,
    PictureKind,
    StepCase,
    TrainingCase,
)
from harness.config import Settings
from harness.engine.events import CaseFailed, Event, RunStarted
from harness.engine.judge import evidence_of
from harness.engine.plan import Task
from harness.engine.pool import run_pooled
from harness.engine.result import Call
from harness.engine.session import Session
from harness.files import json_value
from harness.findings.recorder import CaseRecorder
from harness.packed_arrays import unpacked
from harness.subject_spec import SubjectKind

BEFORE_FIX = "harness.subjects.known_bad.losses:LossBeforeFix"
AFTER_REPORT = "harness.subjects.known_bad.steps:StepAfterReport"


def _evidence(settings: Settings, task: Task, shows: bool = True) -> object:
    heard: list[Event] = []
    run_pooled(RunStarted((task,), settings), heard.append, CaseRecorder(settings), shows=shows)
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
    arrays = {name: unpacked(array) for name, array in found["arrays"].items()}
    always = {"rendering", "target", "difference", "mask", "gradient", "true gradient", "1 - SSIM"}
    assert always <= set(arrays) <= {*always, "rounding error"}
    height, width = arrays["mask"].shape
    assert arrays["target"].shape == (3, height, width)
    assert arrays["gradient"].shape == arrays["true gradient"].shape == (height, width)
    assert arrays["1 - SSIM"].shape == (height - 10, width - 10)
    apart = arrays["rendering"].astype("f8") - arrays["target"]
    assert abs(arrays["difference"]).max() == pytest.approx(abs(apart).max(), rel=1e-6)


def test_where_no_report_shows_it_none_is_gathered(tmp_path: Path) -> None:
    settings = Settings(step=AFTER_REPORT, max_examples=20, workers=1, cases_dir=str(tmp_path))
    assert _evidence(settings, Task(SubjectKind.STEP, "never-raises", "cpu-autocast-float16"), shows=False) is None


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


@pytest.fixture(scope="module")
def before_fix() -> Session:
    return Session(Settings(loss=BEFORE_FIX))


def _of_loss(session: Session, precision: str, case: LossCase, brief: bool = False) -> dict[str, Any]:
    found = evidence_of(session, [Call(Task(SubjectKind.LOSS, "accuracy", precision), case)], brief)
    assert isinstance(found, dict)
    return found


def _smooth(offset: float) -> LossCase:
    picture, perturbation = Picture(PictureKind.SMOOTH), Perturbation(PerturbationKind.OFFSET, offset)
    return LossCase(11, 11, picture=picture, perturbation=perturbation)


def test_the_sweep_follows_the_loss_under_every_precision(before_fix: Session) -> None:
    case = LossCase(
        12, 12, picture=Picture(PictureKind.SMOOTH), perturbation=Perturbation(PerturbationKind.OFFSET, 0.1)
    )
    sweep = _of_loss(before_fix, "cpu-autocast-bfloat16", case)["sweep"]
    assert (sweep["perturbation"], sweep["own"]) == ("offset", 0.1)
    assert next(iter(sweep["losses"])) == "float32"
    own = sweep["magnitudes"].index(pytest.approx(0.1))
    truth = sweep["float64"]
    assert truth == sorted(truth)
    assert sweep["losses"]["float32"][own] == pytest.approx(truth[own], abs=1e-4)
    assert max(abs(a - b) for a, b in zip(sweep["losses"]["cpu-autocast-bfloat16"], truth, strict=True)) > 1e-3


def test_brief_evidence_runs_no_other_case(before_fix: Session) -> None:
    assert _of_loss(before_fix, "float32", _smooth(0.1), brief=True)["sweep"] is None


def test_where_digits_are_lost_is_told(before_fix: Session) -> None:
    case = LossCase(
        11, 11, picture=Picture(PictureKind.SMOOTH), perturbation=Perturbation(PerturbationKind.OFFSET, 0.01)
    )
    rounding = _of_loss(before_fix, "cuda-policy-float16", case, brief=True)["rounding"]
    assert (rounding["half"]["op"], rounding["half"]["gives"]) == ("convolution", "float16")
    assert rounding["half"]["where"].startswith("pytorch_msssim/ssim.py:")
    assert float(rounding["first"]["error"]) > float(rounding["first"]["expected"])
    assert _of_loss(before_fix, "float32", case, brief=True)["rounding"]["half"] is None


def test_of_a_large_picture_the_part_around_the_largest_difference_is_kept(before_fix: Session) -> None:
    pixel = Perturbation(PerturbationKind.PIXEL, 0.1)
    case = LossCase(90, 100, 2, 1, 3, Picture(PictureKind.TEXTURE), Mask(MaskKind.FULL), pixel)
    found = _of_loss(before_fix, "float32", case, brief=True)
    arrays = {name: unpacked(array) for name, array in found["arrays"].items()}
    assert max(max(array.shape) for array in arrays.values()) == 64
    assert abs(arrays["difference"]).max() == pytest.approx(0.1, rel=1e-6)
    shown = found["shown"]
    assert (shown["height"], shown["width"], shown["images"]) == (90, 100, 2)
    row, column = divmod(int(abs(arrays["difference"]).argmax()), 64)
    assert 0 <= shown["top"] + row < 90
    assert 0 <= shown["left"] + column < 100
