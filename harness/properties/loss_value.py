"""Is the loss in range, and is it right?"""

from __future__ import annotations

import torch

from harness.oracle.budget import ZERO, budget
from harness.properties.trial import LossTrial
from harness.properties.verdict import VACUOUS, Verdict, at_most, holds_if, relative_to, within


def range_(trial: LossTrial) -> Verdict:
    value = trial.value(trial.pair)
    return within(value, 0.0, 2.0, f"the loss is {value:.6g} (an SSIM of {1.0 - value:.6g}); it belongs in [0, 2]")


def finite(trial: LossTrial) -> Verdict:
    measured = trial.measurement
    broken = int((~torch.isfinite(measured.gradient)).sum())
    return holds_if(
        measured.is_finite,
        f"the loss is {measured.value:.6g} and {broken} of {measured.gradient.numel()} gradient elements aren't finite",
    )


def identity(trial: LossTrial) -> Verdict:
    measured = trial.measurement
    worst = max(abs(measured.value), float(measured.gradient.abs().max()), key=_nan_first)
    return at_most(
        worst,
        ZERO,
        f"for equal images the loss is {measured.value:.3g} and its gradient reaches "
        f"{float(measured.gradient.abs().max()):.3g}; both should be zero",
    )


def accuracy(trial: LossTrial) -> Verdict:
    value, truth = trial.value(trial.pair), trial.truth.value
    allowed = budget(trial.precision)
    bound = allowed.value_relative * truth + allowed.value_floor
    if truth == 0.0:
        return at_most(abs(value), ZERO, f"the loss is {value:.6g} where the float64 value is zero")
    error = abs(value - truth)
    return relative_to(
        bound,
        error,
        truth,
        f"the loss is {value:.6g} but the float64 value is {truth:.6g}: off by {error / truth:.1%} with 0.1% allowed",
    )


def gradient_accuracy(trial: LossTrial) -> Verdict:
    gradient, truth = trial.measurement.gradient, trial.truth.gradient
    length = float(truth.norm())
    if length == 0.0:
        return VACUOUS
    error = float((gradient - truth).norm())
    bound = trial.budget.gradient_relative * length + trial.budget.gradient_floor * truth.numel() ** 0.5
    cosine = float((gradient * truth).sum() / (gradient.norm() * length)) if float(gradient.norm()) > 0 else 0.0
    return relative_to(
        bound,
        error,
        length,
        f"the gradient is off by {error / length:.3g} times its true length {length:.3g} "
        f"(cosine {cosine:.4f}) where {bound / length:.2g} is allowed",
    )


def gradient_alive(trial: LossTrial) -> Verdict:
    length = float(trial.truth.gradient.norm())
    if length == 0.0:
        return VACUOUS
    measured = float(trial.measurement.gradient.norm())
    # What the dtype of the gradient cannot hold is no fault of the loss.
    needed = 0.1 * length - trial.budget.gradient_floor * trial.truth.gradient.numel() ** 0.5
    if needed <= 0.0:
        return VACUOUS
    share = measured / length
    holds = measured >= needed
    message = f"the foregrounds differ, but the gradient's length is {measured:.3g}; it should be {length:.3g}"
    badness = min(needed / measured, 1e6) if measured > 0 else 1e6
    return Verdict(holds, share, badness, "" if holds else message)


def _nan_first(value: float) -> float:
    return float("inf") if value != value else value
