"""Is the loss in range, and is it right?"""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from harness.cases.descriptors import MaskValues, PerturbationKind
from harness.cases.loss_inputs import MaskedPair
from harness.cases.strategies import DIFFERENT
from harness.cases.tensors import with_half_rendering, with_soft_mask
from harness.numerals import largest, shares_told_apart, told_apart
from harness.oracle.budget import ZERO, ErrorBudget, budget
from harness.oracle.levels import Level
from harness.oracle.truth import Truth
from harness.precision import refusing_unknown_ops
from harness.properties.loss_property import FOREGROUND, NO_MASK, loss_property
from harness.properties.sameness import (
    evaluated_or_refused,
    rounding_of_gradient,
    rounding_of_value,
    same_evaluation,
)
from harness.properties.verdict import VACUOUS, Verdict, at_least_zero, at_most, holds_if, relative_to, within
from harness.trials.loss_trial import Evaluation, LossTrial

# Where a gradient is uncertain by more than this share of its length, nothing is claimed of it.
_MOST_UNCERTAIN = 0.1
# Beyond so many times the true value a share of it says nothing.
_MANY = 10.0
# As much of a gradient is left where the variances of nearly equal, flat pictures are clamped and the means aren't.
_LEFT_OF_THE_MEANS = 1e-3
_NO_TARGET = "a loss of points has no target"
_NO_GRAPH = "the loss has no graph: backward() would raise"


@loss_property(unless=lambda definition: definition.range_unknown, searched=True, effort=2)
def range_(trial: LossTrial) -> Verdict:
    """The loss lies in the range of its definition, which for 1 − SSIM is [0, 2]."""
    value, definition = trial.own_value, trial.definition
    if trial.case.perturbation.kind is PerturbationKind.OVERSHOOT and not definition.one_minus:
        return VACUOUS  # its range is that of images in [0, 1]
    lower, upper, similarity = definition.lower, definition.upper, definition.one_minus
    edge = lower if value < lower else upper if value > upper else lower
    similar, _ = told_apart(1.0 - value, 1.0 - edge, 6)
    aside = f" (an {similarity} of {similar})" if similarity else ""

    def level() -> Level:
        return trial.noise.of_value(max(lower - value, value - upper))

    if upper == math.inf:
        return at_least_zero(value, f"the loss is {value:.6g}{aside}; it must be finite and not negative").graded(level)
    shown, _ = told_apart(value, edge, 6)
    return within(value, lower, upper, f"the loss is {shown}{aside}; it belongs in [{lower:g}, {upper:g}]").graded(
        level
    )


@loss_property()
def finite(trial: LossTrial) -> Verdict:
    """The loss and its gradient are finite, and it has a graph: backward() can be called, whatever the mask."""
    measured = trial.evaluation
    if not measured.has_graph:
        # Also where the true gradient is zero, as under an empty mask: a training step would end there all the same.
        return holds_if(False, f"{_NO_GRAPH}; a zero that depends on the inputs has one")
    broken = int((~torch.isfinite(measured.gradient)).sum())
    return holds_if(
        measured.is_finite,
        f"the loss is {measured.value:.6g} and {broken} of {measured.gradient.numel()} gradient elements aren't finite",
    )


@loss_property(perturbations=(PerturbationKind.NONE,), searched=True, effort=0.5)
def identity(trial: LossTrial) -> Verdict:
    """For equal images the loss and its gradient are zero, to 1e-6, or what they are known to be, to 1e-3."""
    measured = trial.evaluation
    if not trial.definition.zero_at_identity:
        verdict = _value_against(trial, measured.value, trial.truth)
        return gradient_accuracy(trial) if verdict.holds else verdict
    steepest = float(measured.gradient.abs().max())
    return at_most(
        largest(abs(measured.value), steepest),
        ZERO,
        f"for equal images the loss is {measured.value:.3g} and its gradient reaches {steepest:.3g}; "
        f"both should be zero",
    ).graded(lambda: trial.level_of_zero(measured))


@loss_property(perturbations=DIFFERENT, masks=FOREGROUND, large=True, compares=True, searched=True, every_grey=True)
def accuracy(trial: LossTrial) -> Verdict:
    """The loss is within 1e-3, relatively, of its float64 value."""
    return _value_against(trial, trial.own_value, trial.truth)


@loss_property(
    masked_only=NO_MASK,
    perturbations=DIFFERENT,
    masks=FOREGROUND,
    mask_values=(MaskValues.NUMBERS, MaskValues.ANY),
    compares=True,
    effort=0.25,
)
def soft_mask(trial: LossTrial) -> Verdict:
    """With soft masks, 0.4999, 0.5 and 0.51 among their values, the loss is within 1e-3 of its float64 value."""
    inputs = with_soft_mask(trial.case, trial.inputs)
    verdict = _value_against(trial, trial.value(inputs), trial.truth_of(inputs))
    # Which pixels a soft mask shows is found out with masks of 0 and 1 alone.
    return verdict if trial.binding or verdict.level is Level.ROUNDING else verdict.at(Level.DEFINITION)


@loss_property(perturbations=DIFFERENT, masks=FOREGROUND, large=True, compares=True, searched=True)
def gradient_accuracy(trial: LossTrial) -> Verdict:
    """The gradient is within 1e-3, relatively, of its float64 value (and of its dtype's rounding)."""
    return _gradient_against(trial, trial.evaluation, trial.truth, trial.budget, "the gradient")


@loss_property(
    unless=lambda definition: _NO_TARGET if definition.on_points else "",
    perturbations=DIFFERENT,
    masks=FOREGROUND,
    compares=True,
    effort=0.25,
)
@refusing_unknown_ops()
def float32_target(trial: LossTrial) -> Verdict:
    """A half rendering beside a float32 target has their float64 loss and gradient, to 1e-3, or is refused with a
    ValueError or TypeError that says why.

    So a network's output under autocast meets a picture as it was loaded. What rounds the target too is convicted. The
    rendering is of the precision's half dtype, and bfloat16 where that has none. Any other exception is of the level
    *strictness*: it ends a training at its first step, and changes none.
    """
    precision, built = trial.precision.with_half_inputs(), trial.built
    assert isinstance(built, MaskedPair), "the property doesn't apply to points"
    inputs = with_half_rendering(built.cast(precision.device, torch.float32), precision.input_dtype)
    evaluated = evaluated_or_refused(lambda: trial.evaluate(inputs), "a float32 target")
    if isinstance(evaluated, Verdict):
        return evaluated
    truth = trial.truth_of(inputs)
    verdict = _value_against(trial, evaluated.value, truth)
    if verdict.holds:
        allowed = budget(precision, evaluated.loss_scale)
        verdict = _gradient_against(trial, evaluated, truth, allowed, "the half gradient")
    return verdict


@loss_property(
    unless=lambda definition: _NO_TARGET if definition.on_points else definition.asymmetry,
    perturbations=DIFFERENT,
    masks=FOREGROUND,
    compares=True,
    effort=0.25,
)
def target_gradient(trial: LossTrial) -> Verdict:
    """A target that requires a gradient gets the float64 one, to 1e-3, and leaves the rendering's as it was.

    The loss is symmetric, so the truth is that of the images swapped. A target that is detached gets none: that is
    another *definition*, which trains the same where the targets are pictures.
    """
    pair = trial.inputs
    assert isinstance(pair, MaskedPair), "the property doesn't apply to points"
    by_rendering, by_target = trial.evaluate_by_both(pair)
    if not by_rendering.has_graph:
        return VACUOUS  # for the property "finite" to convict
    verdict = same_evaluation(trial, trial.evaluation, by_rendering, "a target that requires a gradient changes")
    if not verdict.holds:
        return verdict
    truth = trial.truth_of(replace(pair, rendering=pair.target, target=pair.rendering))
    if not by_target.has_graph:
        needs_none = float(truth.gradient.norm()) == 0.0
        return holds_if(needs_none, "no gradient reaches a target that requires one").at(Level.DEFINITION)
    allowed = budget(trial.precision, by_target.loss_scale)
    return _gradient_against(trial, by_target, truth, allowed, "the target's gradient")


def _gradient_against(trial: LossTrial, measured: Evaluation, right: Truth, allowed: ErrorBudget, what: str) -> Verdict:
    gradient, truth = measured.gradient, right.gradient
    length = float(truth.norm())
    uncertainty = right.gradient_uncertainty
    if length == 0.0 or uncertainty > _MOST_UNCERTAIN * length:
        return VACUOUS
    if not measured.has_graph:
        return holds_if(False, _NO_GRAPH)
    error = float((gradient - truth).norm())
    bound = allowed.gradient_relative * length + allowed.gradient_floor * truth.numel() ** 0.5 + uncertainty
    cosine = float((gradient * truth).sum() / (gradient.norm() * length)) if float(gradient.norm()) > 0 else 0.0
    off, most = told_apart(error / length, bound / length)
    return relative_to(
        bound,
        error,
        length,
        f"{what} is off by {off} times its true length {length:.3g} (cosine {cosine:.4f}) where {most} is allowed",
        lambda: rounding_of_gradient(trial.noise.at(right.value), error, truth.numel(), length),
    )


@loss_property(perturbations=DIFFERENT, masks=FOREGROUND, compares=True, searched=True, effort=0.5)
def gradient_alive(trial: LossTrial) -> Verdict:
    """Where the inputs differ in what counts, the gradient keeps at least a tenth of its true length."""
    length = float(trial.truth.gradient.norm())
    if length == 0.0:
        return VACUOUS
    measured = float(trial.evaluation.gradient.norm())
    # What the dtype of the gradient cannot hold is no fault of the loss.
    needed = 0.1 * length - trial.budget.gradient_floor * trial.truth.gradient.numel() ** 0.5
    needed -= trial.truth.gradient_uncertainty
    if needed <= 0.0:
        return VACUOUS
    if not trial.evaluation.has_graph:
        return holds_if(False, f"the inputs differ where they count, but {_NO_GRAPH}", 0.0)
    share = measured / length
    holds = measured >= needed
    message = (
        f"the inputs differ where they count, but the gradient's length is {measured:.3g}; it should be {length:.3g}"
    )
    badness = min(needed / measured, 1e6) if measured > 0 else 1e6

    def level() -> Level:
        # A float32 textbook that holds its variances at 0 and more loses what comes through them where they are smaller
        # than their rounding; what comes through the means is left. A loss that is clamped as a whole leaves nothing.
        lost = length if trial.rounds_alone and share > _LEFT_OF_THE_MEANS else 0.0
        return trial.noise.at(trial.truth.value).of_gradient(length - measured, trial.truth.gradient.numel(), lost)

    return Verdict(holds, share, badness, "" if holds else message).graded(level)


def _value_against(trial: LossTrial, value: float, truth: Truth) -> Verdict:
    allowed, size = budget(trial.precision), abs(truth.value)
    if size == 0.0:
        return at_most(abs(value), ZERO, f"the loss is {value:.6g} where the float64 value is zero").graded(
            lambda: trial.noise.of_value(abs(value))
        )
    bound = allowed.value_relative * size + allowed.value_floor + truth.value_uncertainty
    error = abs(value - truth.value)
    measured, right = told_apart(value, truth.value, 6)
    off, most = shares_told_apart(error / size, bound / size)
    if error > _MANY * size:
        off, most = told_apart(error, bound)
    return relative_to(
        bound,
        error,
        size,
        f"the loss is {measured} but the float64 value is {right}: off by {off} with {most} allowed",
        lambda: rounding_of_value(trial.noise, error),
    )
