"""What must not change the loss, and what it must not look at."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from harness.cases.tensors import MaskedPair, other_background
from harness.oracle.budget import RELATIVE, ZERO
from harness.oracle.masked_ssim import masked_ssim_truth
from harness.properties.trial import LossTrial, Measurement
from harness.properties.verdict import Verdict, at_most, holds_if, relative_to

# Where values and gradients are themselves near zero, differences of a billionth don't count.
_NEAR_ZERO = RELATIVE * ZERO


def symmetry(trial: LossTrial) -> Verdict:
    pair = trial.pair
    there = trial.value(pair)
    back = trial.value(replace(pair, rendering=pair.target, target=pair.rendering))
    return _same(there, back, "swapping the images changes the loss")


def hidden_pixels(trial: LossTrial) -> Verdict:
    measured = trial.measurement
    other = trial.measure(other_background(trial.case, trial.pair))
    hidden = (trial.pair.mask <= 0.5).cpu().expand_as(measured.gradient)
    leaked = float(other.gradient[hidden].abs().max()) if bool(hidden.any()) else 0.0
    if leaked != 0.0:
        return holds_if(False, f"a gradient of up to {leaked:.3g} reaches pixels that the mask hides", leaked)
    return _same_measurement(measured, other, "other pixels behind the mask change")


def full_mask(trial: LossTrial) -> Verdict:
    value = trial.value(trial.pair)
    truth = masked_ssim_truth(replace(trial.pair, mask=torch.ones_like(trial.pair.mask))).value
    error = abs(value - truth)
    return relative_to(
        RELATIVE * truth + _NEAR_ZERO,
        error,
        truth,
        f"with a full mask the loss is {value:.6g}, but that of the unmasked images is {truth:.6g}",
    )


def empty_mask(trial: LossTrial) -> Verdict:
    measured = trial.measurement
    steepest = float(measured.gradient.abs().max())
    worst = math.nan if math.isnan(measured.value) else max(abs(measured.value), steepest)
    return at_most(
        worst,
        ZERO,
        f"with an empty mask the loss is {measured.value:.3g} and its gradient reaches {steepest:.3g}; both must be 0",
    )


def batch(trial: LossTrial) -> Verdict:
    pair = trial.pair
    whole = trial.value(pair)
    singles = [
        trial.value(MaskedPair(pair.rendering[i : i + 1], pair.target[i : i + 1], pair.mask[i : i + 1]))
        for i in range(trial.case.images)
    ]
    verdict = _same(whole, sum(singles) / len(singles), "the batch's loss is not the mean of its images' losses")
    if not verdict.holds:
        return verdict
    flipped = MaskedPair(pair.rendering.flip(0), pair.target.flip(0), pair.mask.flip(0))
    return _same(whole, trial.value(flipped), "reversing the batch changes the loss")


def strides(trial: LossTrial) -> Verdict:
    for layout, name in ((_channels_last, "channels-last images"), (_every_other, "non-contiguous images")):
        pair = trial.pair
        other = trial.measure(MaskedPair(layout(pair.rendering), layout(pair.target), layout(pair.mask)))
        verdict = _same_measurement(trial.measurement, other, f"{name} change")
        if not verdict.holds:
            return verdict
    return verdict


def _channels_last(image: Tensor) -> Tensor:
    return image.contiguous(memory_format=torch.channels_last)


def _every_other(image: Tensor) -> Tensor:
    """The same values, two elements apart in memory."""
    return torch.stack([image, torch.zeros_like(image)], dim=-1)[..., 0]


def _same(first: float, second: float, message: str) -> Verdict:
    larger = max(abs(first), abs(second))
    return relative_to(
        RELATIVE * larger + _NEAR_ZERO,
        abs(first - second),
        larger,
        f"{message}: {first:.6g} against {second:.6g}",
    )


def _same_measurement(first: Measurement, second: Measurement, what: str) -> Verdict:
    verdict = _same(first.value, second.value, f"{what} the loss")
    if not verdict.holds:
        return verdict
    length = float(first.gradient.norm())
    difference = float((first.gradient - second.gradient).norm())
    return relative_to(
        RELATIVE * length + _NEAR_ZERO,
        difference,
        length,
        f"{what} the gradient by {difference:.3g}, its length being {length:.3g}",
    )
