"""What must not change the loss, and what it must not look at."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from harness.cases.descriptors import Hidden, MaskKind, MaskValues
from harness.cases.loss_inputs import MaskedPair
from harness.cases.strategies import DIFFERENT
from harness.cases.tensors import with_mask_values, with_other_values
from harness.errors import describe_exception
from harness.numerals import largest, told_apart
from harness.oracle.budget import RELATIVE, ZERO
from harness.oracle.definitions import Counting
from harness.oracle.levels import Level
from harness.precision import refusing_unknown_ops
from harness.properties.loss_property import NO_MASK, loss_property
from harness.properties.sameness import NEAR_ZERO, evaluated_or_refused, rounding_of_value, same_evaluation, same_value
from harness.properties.verdict import Verdict, at_most, holds_if, relative_to
from harness.trials.loss_trial import LossTrial


@loss_property(unless=lambda definition: definition.asymmetry, compares=True, effort=0.25)
def symmetry(trial: LossTrial) -> Verdict:
    """Swapping the images leaves the loss, to 1e-3."""
    pair = trial.inputs
    assert isinstance(pair, MaskedPair), "the property doesn't apply to points"
    there = trial.value(pair)
    back = trial.value(replace(pair, rendering=pair.target, target=pair.rendering))
    return same_value(trial, there, back, "swapping the images changes the loss")


@loss_property(masked_only=NO_MASK, hidden=tuple(Hidden), compares=True, effort=0.5)
def hidden_pixels(trial: LossTrial) -> Verdict:
    """Value and gradient don't depend on the pixels that the mask leaves out, be they NaN or infinity, and no gradient
    reaches them.

    What NaN and infinity do there is a *fault* of a loss whose definition says what takes their place, and *strictness*
    of any other: 0 · NaN is NaN, so a loss that weighs its pixels by the mask lets them through by its formula. That
    they are refused, wherever they are, is strictness too.
    """
    if trial.case.hidden is Hidden.NUMBERS:
        return _hidden_pixels(trial)
    try:
        verdict = _hidden_pixels(trial)
    except (ValueError, TypeError) as error:
        return holds_if(
            False, f"{trial.case.hidden.value} where the mask hides is refused: {describe_exception(error)}"
        ).at(Level.STRICTNESS)
    return verdict if trial.definition.sets_hidden_aside else verdict.at(Level.STRICTNESS)


def _hidden_pixels(trial: LossTrial) -> Verdict:
    measured, replaced = trial.evaluation, trial.case.hidden
    uncounted = ~trial.definition.counted(trial.inputs.mask)
    other = trial.evaluate(with_other_values(trial.case, trial.inputs, uncounted))
    what = "other values" if replaced is Hidden.NUMBERS else replaced.value
    hidden = uncounted.cpu().expand_as(measured.gradient)
    leaked = float(other.gradient[hidden].abs().max()) if bool(hidden.any()) else 0.0
    if leaked != 0.0:
        verdict = holds_if(False, f"a gradient of up to {leaked:.3g} reaches pixels that the mask leaves out", leaked)
        return verdict.at(trial.noise.of_element(leaked, other.gradient.numel()))
    return same_evaluation(trial, measured, other, f"{what} where the mask leaves out, put there, change")


@loss_property(
    masked_only=NO_MASK,
    mask_values=(MaskValues.BOOLEANS, MaskValues.WHOLE, MaskValues.BYTES),
    compares=True,
    effort=0.25,
)
@refusing_unknown_ops()
def mask_dtype(trial: LossTrial) -> Verdict:
    """A mask of booleans, or of uint8 up to 1 or to 255, gives what 0.0 and 1.0 give, to 1e-3, or is refused with a
    ValueError or TypeError that says why.

    Another value without a word is a *fault* for booleans, 0 and 1. For 0 and 255 it is *strictness*: a mask is from 0
    to 1, and this one is bad input. Any other exception is strictness too.
    """
    values = trial.case.mask.values
    what = f"a mask of {values.value}"
    other = evaluated_or_refused(lambda: trial.evaluate(with_mask_values(trial.case, trial.inputs)), what)
    if isinstance(other, Verdict):
        return other
    verdict = same_evaluation(trial, trial.evaluation, other, f"{what} changes")
    return verdict.at(Level.STRICTNESS) if values is MaskValues.BYTES else verdict


@loss_property(masked_only=NO_MASK, masks=(MaskKind.FULL,), perturbations=DIFFERENT, compares=True, effort=0.25)
def full_mask(trial: LossTrial) -> Verdict:
    """Where the mask leaves out nothing, the loss is that of all pixels, to 1e-3."""
    value, truth = trial.own_value, trial.truth.value
    error = abs(value - truth)
    mask = f"with {'an empty' if trial.definition.counting is Counting.BACKGROUND else 'a full'} mask"
    measured, right = told_apart(value, truth, 6)
    return relative_to(
        RELATIVE * truth + NEAR_ZERO + trial.value_uncertainty,
        error,
        truth,
        f"{mask} the loss is {measured}, but that of all pixels is {right}",
        lambda: rounding_of_value(trial.noise, error),
    )


@loss_property(masked_only=NO_MASK, masks=(MaskKind.EMPTY,), effort=0.25)
def empty_mask(trial: LossTrial) -> Verdict:
    """Where the mask leaves out everything, the loss and its gradient are zero, to 1e-6."""
    measured = trial.evaluation
    steepest = float(measured.gradient.abs().max())
    mask = f"with {'a full' if trial.definition.counting is Counting.BACKGROUND else 'an empty'} mask"
    verdict = at_most(
        largest(abs(measured.value), steepest),
        ZERO,
        f"{mask} the loss is {measured.value:.3g} and its gradient reaches {steepest:.3g}; both must be 0",
    ).graded(lambda: trial.level_of_zero(measured))
    # What a loss whose definition was found out makes of nothing at all is its own affair, as long as it is finite.
    another = not trial.binding and verdict.level is Level.FAULT and measured.is_finite
    return verdict.at(Level.DEFINITION) if another else verdict


@loss_property(unless=lambda definition: definition.pooling, compares=True, fewest_images=2, searched=True, effort=0.25)
def batch(trial: LossTrial) -> Verdict:
    """A batch's loss is the mean of its images' losses in any order, to 1e-3."""
    whole = trial.own_value
    singles = [
        trial.value(trial.inputs.mapped(lambda tensor, i=i: tensor[i : i + 1]))  # type: ignore[misc]
        for i in range(trial.case.images)
    ]
    verdict = same_value(
        trial, whole, sum(singles) / len(singles), "the batch's loss is not the mean of its images' losses"
    )
    if not verdict.holds:
        return verdict
    flipped = trial.inputs.mapped(lambda tensor: tensor.flip(0))
    return same_value(trial, whole, trial.value(flipped), "reversing the batch changes the loss")


@loss_property(compares=True, effort=0.1)
def strides(trial: LossTrial) -> Verdict:
    """Channels-last, non-contiguous and expanded images give the same loss and gradient, to 1e-3."""
    for layout, name in ((_channels_last, "channels-last images"), (_every_other, "non-contiguous images")):
        other = trial.evaluate(trial.inputs.mapped(layout))
        verdict = same_evaluation(trial, trial.evaluation, other, f"{name} change")
        if not verdict.holds:
            return verdict
    # One image for all of the batch, as a target that is the same for several renderings is expanded.
    expanded = trial.inputs.mapped(lambda tensor: tensor[:1].expand_as(tensor))
    whole = trial.evaluate(expanded.mapped(torch.Tensor.contiguous))
    return same_evaluation(trial, whole, trial.evaluate(expanded), "expanded images change")


def _channels_last(image: Tensor) -> Tensor:
    return image.contiguous(memory_format=torch.channels_last)


def _every_other(image: Tensor) -> Tensor:
    """The same values, two elements apart in memory."""
    return torch.stack([image, torch.zeros_like(image)], dim=-1)[..., 0]
