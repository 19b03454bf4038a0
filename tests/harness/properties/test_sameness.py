"""When two runs of a loss are the same, and how far apart they are where they aren't."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.cases.descriptors import LossCase, Mask, MaskKind, MaskValues, Perturbation, PerturbationKind
from harness.oracle.definitions import definition_named
from harness.oracle.levels import Level
from harness.properties.sameness import evaluated_or_refused, same_value
from harness.properties.verdict import Verdict
from tests.harness.properties.test_edges import _CASE, _judged, _right

_ALIKE = replace(_CASE, perturbation=Perturbation(PerturbationKind.NONE))


def _strided(adds: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """Right, but for what is added of a rendering that isn't contiguous."""

    def loss(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        value = _right(rendering, target, mask)
        return value if rendering.is_contiguous() else value + adds(rendering)

    return loss


@pytest.mark.parametrize(("off", "holds"), [(9e-10, True), (1.1e-9, False)])
def test_where_values_are_zero_a_billionth_is_no_difference(off: float, holds: bool) -> None:
    assert _judged("strides", _strided(lambda x: torch.full((), off, dtype=torch.float64)), _ALIKE).holds is holds


@pytest.mark.parametrize(("off", "holds"), [(9e-10, True), (1.1e-9, False)])
def test_nor_is_one_in_a_gradient_that_is_zero(off: float, holds: bool) -> None:
    loss = _strided(lambda x: off * (x[0, 0, 0, 0] - x[0, 0, 0, 0].detach()))
    assert _judged("strides", loss, _ALIKE).holds is holds


@pytest.mark.parametrize(("off", "level"), [(1e-4, Level.ROUNDING), (1e-3, Level.FAULT)])
def test_beside_a_gradient_of_zero_a_difference_is_told_by_the_rounding(off: float, level: Level) -> None:
    verdict = _judged("strides", _strided(lambda x: off * (x[0, 0, 0, 0] - x[0, 0, 0, 0].detach())), _ALIKE)
    noise, elements = definition_named("masked-ssim").noise(1.0), 2 * 3 * 16 * 16
    assert verdict.quantity == pytest.approx(off / (noise.gradient / elements**0.5), rel=1e-4)
    assert verdict.level is level


class _Infinite(torch.autograd.Function):
    """Adds nothing to the value; its gradient is −∞ or ∞."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, sign: float) -> Tensor:
        ctx.sign = sign
        return value * 0

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        return upstream[0] * ctx.sign * float("inf"), None


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_what_is_infinite_in_both_gradients_is_no_part_of_their_length(sign: float) -> None:
    def length(loss: Callable[..., Tensor]) -> str:
        return _judged("strides", loss).message.partition("length being ")[2]

    off = _strided(lambda x: 10.0 * (x[0, 0, 5, 5] - x[0, 0, 5, 5].detach()))
    assert float(length(off).split()[0]) < 1.0
    assert length(lambda x, y, m: off(x, y, m) + _Infinite.apply(x[0, 0, 0, 0], sign)) == length(off)


def test_of_a_loss_with_kinks_two_values_may_differ_by_twice_what_rounding_does_to_one() -> None:
    of = SimpleNamespace(value_uncertainty=0.1, noise=definition_named("masked-ssim").noise(1.0))
    trial: Any = of
    assert same_value(trial, 1.0, 1.2, "what").holds
    verdict = same_value(trial, 1.0, 1.21, "what")
    assert (verdict.holds, verdict.message) == (False, "what: 1 against 1.21")
    # What is told is how far they are apart, not how large they are.
    of.value_uncertainty = 0.0
    assert same_value(trial, 1.0, 1.0015, "what").level is Level.ROUNDING


def test_a_refusal_says_why_and_anything_else_is_strictness() -> None:
    def raising(error: BaseException) -> Verdict:
        def call() -> None:
            raise error

        verdict = evaluated_or_refused(call, "what")  # type: ignore[arg-type]
        assert isinstance(verdict, Verdict)
        return verdict

    for kind in (ValueError, TypeError):
        assert raising(kind("it is no picture")).holds
        verdict = raising(kind())
        assert (verdict.holds, verdict.level) == (False, Level.STRICTNESS)
        assert verdict.message == f"what: {kind.__name__} without a word"
    verdict = raising(RuntimeError("no"))
    assert (verdict.holds, verdict.level) == (False, Level.STRICTNESS)
    assert verdict.message == "what: raises RuntimeError: no"


def test_a_mask_of_booleans_may_be_refused_in_words() -> None:
    case = LossCase(16, 16, mask=Mask(MaskKind.DISC, 80, MaskValues.BOOLEANS), perturbation=_CASE.perturbation)

    def refusing(words: str) -> Callable[..., Tensor]:
        def loss(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
            if mask.dtype == torch.bool:
                raise TypeError(*[words][: bool(words)])
            return _right(rendering, target, mask)

        return loss

    assert _judged("mask-dtype", refusing("the mask is of booleans"), case).holds
    assert not _judged("mask-dtype", refusing(""), case).holds
