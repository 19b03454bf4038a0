"""Every property acquits the right subject and convicts a mutant made to break it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config import Settings
from harness.engine.plan import SubjectKind, Task
from harness.engine.result import Status, TaskResult
from harness.engine.run import Session
from harness.properties import LOSS_PROPERTIES, STEP_PROPERTIES
from harness.reports.words import describe

_MUTANTS = str(Path(__file__).with_name("mutants.py"))
_RIGHT = {"loss": "gslrm.model.utils_losses:MaskedSsimLoss", "step": "gslrm.training.amp_step:AmpStep"}

_ALL = [("loss", p.name) for p in LOSS_PROPERTIES] + [("step", p.name) for p in STEP_PROPERTIES]
_MORE = [("loss", "side-effects", "_random"), ("loss", "side-effects", "_modes")]


def _run(kind: str, name: str, spec: str) -> TaskResult:
    settings = Settings(**{kind: spec}, max_examples=60)  # type: ignore[arg-type]
    # A scaler is at work in float16 only.
    precision = "cpu-autocast-float16" if kind == "step" else "float32"
    return Session(settings).run(Task(SubjectKind(kind), name, precision), lambda _: None)


@pytest.mark.parametrize(("kind", "name", "more"), [(*pair, "") for pair in _ALL] + _MORE)
def test_the_mutant_is_convicted(kind: str, name: str, more: str) -> None:
    result = _run(kind, name, f"{_MUTANTS}:break_{name.replace('-', '_')}{more}")
    assert result.status is Status.VIOLATED
    assert result.message
    assert result.case is not None
    assert describe(result.case)


@pytest.mark.parametrize(("kind", "name"), _ALL)
def test_the_right_subject_is_acquitted(kind: str, name: str) -> None:
    result = _run(kind, name, _RIGHT[kind])
    assert result.status is Status.HELD, result.message
    assert result.examples >= 60


@pytest.mark.parametrize("name", ["hidden-pixels", "full-mask", "empty-mask"])
def test_what_speaks_of_masks_says_that_it_does_not_apply_to_a_bare_loss(name: str) -> None:
    result = _run("loss", name, "gslrm.model.utils_losses:SsimLoss")
    assert result.status is Status.NOT_APPLICABLE
    assert "takes no mask" in result.message


@pytest.mark.parametrize("name", [p.name for p in LOSS_PROPERTIES if not p.masked_only])
def test_the_plain_loss_is_acquitted(name: str) -> None:
    assert _run("loss", name, "gslrm.model.utils_losses:SsimLoss").status is Status.HELD
