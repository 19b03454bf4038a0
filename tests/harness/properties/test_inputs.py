"""Inputs that training gives: each convicts a loss that goes wrong on it alone, and is the case that is reported."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cases.descriptors import Flaw, Hidden, LossCase, MaskValues
from harness.config import Settings
from harness.engine.plan import Task
from harness.engine.result import Status, TaskResult
from harness.engine.run import TaskRunner
from harness.kinds.losses import LossBench
from harness.oracle.levels import Level
from harness.precision import precisions_named
from harness.properties import LOSS_PROPERTIES
from harness.subject_spec import AUTO_TRUTH, SubjectKind, SubjectSpec
from harness.subjects.loss import load_loss
from tests.harness.properties import input_mutants

_MUTANTS = str(Path(__file__).with_name("input_mutants.py"))
_PUBLIC = str(Path(__file__).parents[1] / "subjects" / "public_losses.py")

Showing = Callable[[LossCase], bool]


def _hidden(what: Hidden) -> Showing:
    return lambda case: case.hidden is what


def _values(what: MaskValues) -> Showing:
    return lambda case: case.mask.values is what


def _anything(case: LossCase) -> bool:
    return True


# Property, mutant, level, and what the reported case has to be.
_CONVICTIONS: list[tuple[str, str, Level | None, Showing]] = [
    ("float32-target", "break_float32_target", None, _anything),
    ("float32-target", "break_float32_target_raises", Level.STRICTNESS, _anything),
    ("target-gradient", "break_target_gradient", Level.DEFINITION, _anything),
    ("target-gradient", "break_target_gradient_halved", Level.FAULT, _anything),
    ("mask-dtype", "break_mask_dtype", Level.FAULT, _values(MaskValues.WHOLE)),
    ("mask-dtype", "break_mask_dtype_booleans", Level.FAULT, _values(MaskValues.BOOLEANS)),
    ("mask-dtype", "break_mask_dtype_raises", Level.STRICTNESS, _values(MaskValues.BOOLEANS)),
    ("mask-dtype", "break_mask_dtype_bytes", Level.STRICTNESS, _values(MaskValues.BYTES)),
    ("soft-mask", "break_soft_mask_tenths", Level.FAULT, _values(MaskValues.ANY)),
    ("hidden-pixels", "break_hidden_pixels_nan", Level.FAULT, _hidden(Hidden.NAN_RENDERING)),
    ("hidden-pixels", "break_hidden_pixels_infinity", Level.FAULT, _hidden(Hidden.INF_RENDERING)),
    ("hidden-pixels", "break_hidden_pixels_target", Level.FAULT, _hidden(Hidden.NAN_TARGET)),
    ("hidden-pixels", "break_hidden_pixels_target_infinity", Level.FAULT, _hidden(Hidden.INF_TARGET)),
    ("hidden-pixels", "break_hidden_pixels_gradient", Level.FAULT, lambda case: case.hidden is not Hidden.NUMBERS),
    ("hidden-pixels", "break_hidden_pixels_refuses", Level.STRICTNESS, _hidden(Hidden.NAN_RENDERING)),
    ("bad-input", "break_bad_input_no_image", Level.STRICTNESS, lambda case: case.flaw is Flaw.NO_IMAGE),
]


# Property, mutant, and the heights and widths of the first cases that convict it.
_SIZES = [
    ("accuracy", "break_accuracy_shrunk", {(512, 512)}),
    ("accuracy", "break_accuracy_broad", {(11, 512)}),
    ("accuracy", "break_accuracy_tall", {(512, 11)}),
    ("gradient-accuracy", "break_gradient_accuracy_large", {(512, 512)}),
]


def _run(name: str, spec: str, truth: str = "masked-ssim", examples: int = 60) -> TaskResult:
    return _session(spec, truth, examples).run(Task(SubjectKind.LOSS, name, "float32"), lambda _: None)


@functools.lru_cache(maxsize=1)
def _session(spec: str, truth: str, examples: int) -> TaskRunner:
    return TaskRunner(Settings(loss=spec, truth=truth, max_examples=examples))


@pytest.mark.parametrize(("name", "mutant", "level", "shows"), _CONVICTIONS, ids=[row[1] for row in _CONVICTIONS])
def test_the_input_convicts_what_goes_wrong_on_it(name: str, mutant: str, level: Level | None, shows: Showing) -> None:
    result = _run(name, f"{_MUTANTS}:{mutant}")
    assert result.status is Status.VIOLATED
    assert result.message
    assert level in (None, result.level)
    assert isinstance(result.case, LossCase)
    assert shows(result.case)


@pytest.mark.parametrize(("name", "mutant", "sizes"), _SIZES, ids=[row[1] for row in _SIZES])
def test_a_size_convicts_what_goes_wrong_on_it(name: str, mutant: str, sizes: set[tuple[int, int]]) -> None:
    """Judged on the cases that a search runs first, since no other is as large, and shrinking takes long."""
    bench = LossBench(load_loss(SubjectSpec(f"{_MUTANTS}:{mutant}")))
    property_ = next(row for row in LOSS_PROPERTIES if row.name == name)
    (float32,) = precisions_named(["float32"])
    verdicts = {
        (case.height, case.width): bench.judge(property_, float32, case, lambda _: None).verdict
        for case in bench.plan(property_, 1).first
    }
    assert {size for size, verdict in verdicts.items() if not verdict.holds} == sizes
    assert all(verdicts[size].level is Level.FAULT for size in sizes)


def test_every_mutant_is_convicted() -> None:
    made = {name for name in vars(input_mutants) if name.startswith("break_")}
    assert made == {mutant for _, mutant, *_ in (*_CONVICTIONS, *_SIZES)}


@pytest.mark.parametrize("name", ["float32-target", "target-gradient", "mask-dtype", "hidden-pixels", "soft-mask"])
@pytest.mark.parametrize("loss", ["zero_padded", "splatting", "on_black"])
def test_public_losses_have_no_fault_there(loss: str, name: str) -> None:
    result = _run(name, f"{_PUBLIC}:{loss}", AUTO_TRUTH, 20)
    assert result.status is not Status.VIOLATED or result.level is not Level.FAULT, result.message


def test_nan_that_is_weighed_by_0_is_strictness_where_the_definition_was_found_out() -> None:
    result = _run("hidden-pixels", f"{_PUBLIC}:on_black", AUTO_TRUTH, 20)
    assert (result.status, result.level) == (Status.VIOLATED, Level.STRICTNESS)
