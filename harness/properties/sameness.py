"""Are two runs of one loss the same, to 1e-3?"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from harness.errors import describe_exception, reraise_unless_subjects
from harness.numerals import told_apart
from harness.oracle.budget import RELATIVE, ZERO
from harness.oracle.levels import Level, Noise
from harness.properties.verdict import Rounding, Verdict, holds_if, relative_to
from harness.trials.loss_trial import Evaluation, LossTrial, differs

NEAR_ZERO = RELATIVE * ZERO
"""Where values and gradients are themselves near zero, differences of a billionth don't count."""
_NO_DIFFERENCE = Verdict(True, 0.0, 0.0)


def evaluated_or_refused(call: Callable[[], Evaluation], what: str) -> Evaluation | Verdict:
    """What the call gives; or a verdict where it raises. A ValueError or TypeError that says why is a refusal, and
    holds; any other exception is of the level strictness.

    Args:
        what: was handed over.
    """
    try:
        return call()
    except (ValueError, TypeError) as error:
        kind = type(error).__name__
        verdict = holds_if(describe_exception(error) != kind, f"{what}: {kind} without a word")
    except BaseException as error:
        reraise_unless_subjects(error)
        verdict = holds_if(False, f"{what}: raises {describe_exception(error)}")
    return verdict.at(Level.STRICTNESS)


def rounding_of_value(noise: Noise, error: float) -> Rounding:
    """Of a value that is off by so much."""
    return Rounding(noise.value, noise.of_value(error))


def rounding_of_gradient(noise: Noise, error: float, elements: int, length: float) -> Rounding:
    """Of a gradient of so many elements and this length, whose error is as an L2 norm."""
    return Rounding(noise.gradient / elements**0.5, noise.of_gradient(error, elements, length))


def same_value(trial: LossTrial, first: float, second: float, message: str) -> Verdict:
    """Holds where two values differ by rounding at most; the message is what comes before both."""
    if first == second or (math.isnan(first) and math.isnan(second)):
        # What is infinite or NaN alike is for the property "finite" to convict.
        return _NO_DIFFERENCE
    larger = max(abs(first), abs(second))
    one, other = told_apart(first, second, 6)
    return relative_to(
        RELATIVE * larger + NEAR_ZERO + 2.0 * trial.value_uncertainty,
        abs(first - second),
        larger,
        f"{message}: {one} against {other}",
        lambda: rounding_of_value(trial.noise, abs(first - second)),
    )


def same_gradient(trial: LossTrial, first: Evaluation, second: Evaluation, what: str, floor: float = 0.0) -> Verdict:
    """Holds where two gradients differ by rounding at most; ``what`` is the message up to "the gradient".

    Args:
        floor: added to what is allowed of the difference's L2 norm.
    """
    length = float(torch.nan_to_num(first.gradient, 0.0, 0.0, 0.0).norm())
    apart = torch.where(differs(first.gradient, second.gradient), first.gradient - second.gradient, 0.0)
    difference = float(apart.norm())
    if difference == 0.0:
        return _NO_DIFFERENCE
    bound = RELATIVE * length + NEAR_ZERO + 2.0 * trial.gradient_uncertainty + floor
    off, allowed = told_apart(difference, bound)
    return relative_to(
        bound,
        difference,
        length,
        f"{what} the gradient by {off}, its length being {length:.3g} and {allowed} allowed",
        lambda: rounding_of_gradient(trial.noise, difference, first.gradient.numel(), length),
    )


def same_evaluation(trial: LossTrial, first: Evaluation, second: Evaluation, what: str) -> Verdict:
    """Holds where values and gradients differ by rounding at most; ``what`` is the message up to "the loss"."""
    verdict = same_value(trial, first.value, second.value, f"{what} the loss")
    return same_gradient(trial, first, second, what) if verdict.holds else verdict
