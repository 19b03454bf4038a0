"""Every property acquits the right subject and convicts a mutant made to break it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gslrm.training.amp_step import AmpStep
from harness.config import Settings
from harness.engine.plan import Task
from harness.engine.result import Status, TaskResult
from harness.engine.run import TaskRunner
from harness.kinds.registry import describe
from harness.properties import LOSS_PROPERTIES, STEP_PROPERTIES
from harness.subject_spec import SubjectKind
from tests.harness.properties import instance_mutants, mutants

_FOLDER = Path(__file__).parent
_MUTANTS = str(_FOLDER / "mutants.py")
_RIGHT = {"loss": "gslrm.model.utils_losses:MaskedSsimLoss", "step": "gslrm.training.amp_step:AmpStep"}

_ALL = [("loss", p.name) for p in LOSS_PROPERTIES] + [("step", p.name) for p in STEP_PROPERTIES]


def _convictions() -> Iterator[tuple[str, str, str]]:
    """Kind, property and mutant: ``break_gradient_alive_detached`` breaks ``gradient-alive`` in one more way."""
    for path, mutant, made in ((m.__file__, *named) for m in (mutants, instance_mutants) for named in vars(m).items()):
        if mutant.startswith("break_"):
            kind = "step" if isinstance(made, type) and issubclass(made, AmpStep) else "loss"
            broken = [
                name for of, name in _ALL if of == kind and f"{mutant}_".startswith(f"break_{name.replace('-', '_')}_")
            ]
            assert broken, f"{mutant} is named after no property of a {kind}"
            yield kind, max(broken, key=len), f"{path}:{mutant}"


def _run(kind: str, name: str, spec: str) -> TaskResult:
    settings = Settings(**{kind: spec}, truth="masked-ssim", max_examples=60)  # type: ignore[arg-type]
    # A scaler is at work in float16 only.
    precision = "cpu-autocast-float16" if kind == "step" else "float32"
    return TaskRunner(settings).run(Task(SubjectKind(kind), name, precision), lambda _: None)


@pytest.mark.parametrize(
    ("kind", "name", "mutant"), [pytest.param(*found, id=found[2].partition(":")[2]) for found in _convictions()]
)
def test_the_mutant_is_convicted(kind: str, name: str, mutant: str) -> None:
    result = _run(kind, name, mutant)
    assert result.status is Status.VIOLATED
    assert result.message
    assert result.case is not None
    assert describe(result.case, result.task.property)


@pytest.mark.parametrize(("kind", "name"), _ALL)
def test_the_right_subject_is_acquitted(kind: str, name: str) -> None:
    result = _run(kind, name, _RIGHT[kind])
    assert result.status is Status.HELD, result.message
    properties: Sequence[Any] = {"loss": LOSS_PROPERTIES, "step": STEP_PROPERTIES}[kind]
    effort = next(p.effort for p in properties if p.name == name)
    assert result.examples >= 60 * min(1.0, effort)


@pytest.mark.parametrize("name", ["finite", "gradient-accuracy", "gradient-alive"])
def test_a_detached_loss_is_told_that_it_has_no_graph(name: str) -> None:
    result = _run("loss", name, f"{_MUTANTS}:break_finite_detached")
    assert "the loss has no graph: backward() would raise" in result.message


@pytest.mark.parametrize("name", ["symmetry", "batch", "strides", "repeatable"])
def test_what_is_nan_alike_has_not_changed(name: str) -> None:
    assert _run("loss", "finite", f"{_MUTANTS}:always_nan").status is Status.VIOLATED
    assert _run("loss", name, f"{_MUTANTS}:always_nan").status is Status.HELD
    # Nor has a gradient that is NaN beside a value that isn't.
    assert _run("loss", name, f"{_MUTANTS}:break_empty_mask_gradient").status is Status.HELD


@pytest.mark.parametrize("name", ["first-call", "calls-add-up", "state-dict", "casts", "keeps-nothing", "modes"])
def test_a_module_that_caches_rightly_is_acquitted(name: str) -> None:
    result = _run("loss", name, f"{instance_mutants.__file__}:RightModule")
    assert result.status is Status.HELD, result.message


@pytest.mark.parametrize("name", ["state-dict", "casts"])
def test_what_speaks_of_modules_says_that_it_does_not_apply_to_a_function(name: str) -> None:
    result = _run("loss", name, f"{_MUTANTS}:break_batch")
    assert (result.status, result.message) == (Status.NOT_APPLICABLE, "it isn't a module")


def test_a_step_may_give_its_reasons_in_words_of_its_own() -> None:
    result = _run("step", "truthful", f"{_MUTANTS}:OtherWords")
    assert result.status is Status.HELD, result.message


@pytest.mark.parametrize("name", ["hidden-pixels", "full-mask", "empty-mask"])
def test_what_speaks_of_masks_says_that_it_does_not_apply_to_a_bare_loss(name: str) -> None:
    result = _run("loss", name, "gslrm.model.utils_losses:SsimLoss")
    assert result.status is Status.NOT_APPLICABLE
    assert "takes no mask" in result.message


@pytest.mark.parametrize("name", [p.name for p in LOSS_PROPERTIES if not p.masked_only])
def test_the_plain_loss_is_acquitted(name: str) -> None:
    assert _run("loss", name, "gslrm.model.utils_losses:SsimLoss").status is Status.HELD
