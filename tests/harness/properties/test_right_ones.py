"""What careful people write is acquitted: no fault is found in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config import Settings
from harness.engine.plan import plan
from harness.engine.result import Status, TaskResult
from harness.engine.run import TaskRunner
from harness.oracle.levels import Level
from harness.subject_spec import SubjectKind

_SUBJECTS = Path(__file__).parents[1] / "subjects"
_LOSSES = ("textbook", "library", "separable", "difference", "unfolded", "image_by_image")
_STEPS = ("guarded", "ClearsFirst", "LooksAtTheLoss", "Careful", "Limited")


def _results(settings: Settings, role: SubjectKind, precision: str) -> list[TaskResult]:
    runner = TaskRunner(settings)
    tasks = [task for task in plan((role,), (), (precision,)) if task.property != "ranks-agree"]
    return [runner.run(task, lambda _: None) for task in tasks]


@pytest.mark.parametrize(
    ("name", "precision"),
    [*((name, "float32") for name in _LOSSES), *((name, "cuda-policy-bfloat16") for name in ("library", "difference"))],
)
def test_a_right_loss_has_no_fault(name: str, precision: str, tmp_path: Path) -> None:
    spec = f"{_SUBJECTS / 'right_losses.py'}:{name}"
    settings = Settings(loss=spec, truth="masked-ssim", max_examples=8, cases_dir=str(tmp_path))
    results = _results(settings, SubjectKind.LOSS, precision)
    assert sum(result.status is Status.HELD for result in results) >= 15
    assert [r for r in results if r.level is Level.FAULT] == []


@pytest.mark.parametrize("precision", ["float32", "cpu-autocast-float16"])
@pytest.mark.parametrize("name", _STEPS)
def test_a_right_step_has_no_fault(name: str, precision: str, tmp_path: Path) -> None:
    spec = f"{_SUBJECTS / 'public_steps.py'}:{name}"
    results = _results(Settings(step=spec, max_examples=100, cases_dir=str(tmp_path)), SubjectKind.STEP, precision)
    assert sum(result.status is Status.HELD for result in results) >= 6
    assert [r for r in results if r.status is Status.VIOLATED] == []
