"""What a training step may do or leave: its policies, to which it is held where it promised or was seen to have them.

The universal rules (a step never raises, non-finite gradients move nothing, the schedule follows the updates, …) are no
policies: every step is held to them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.errors import UsageError, unknown_name

CLIP_NORM, NORM_FACTOR = 1.0, 20.0
"""The simplest setting: gradients are clipped to the one, and a window is dropped whose norm exceeds the product of
both, by a step that takes them."""


@dataclass(frozen=True)
class Policies:
    """A step's own choices.

    Attributes:
        clip_norm: gradients are clipped to this L2 norm; ``None``: they are not.
        clip_value: each gradient element is clipped to this size; ``None``: it is not.
        norm_limit: a window with a larger norm is dropped; ``None``: none is.
        drops_nonfinite_loss: a window is dropped whose loss is NaN or inf, though its gradients are finite.
        counts_attempts: its count of updates counts the windows that were dropped too.
        zero_clips_nothing: handed a clip norm of 0, it leaves gradients as they are; else that is something else to it.
    """

    clip_norm: float | None = CLIP_NORM
    clip_value: float | None = None
    norm_limit: float | None = CLIP_NORM * NORM_FACTOR
    drops_nonfinite_loss: bool = True
    counts_attempts: bool = False
    zero_clips_nothing: bool = True

    def clipped(self, gradients: Mapping[str, float], elements: Mapping[str, int]) -> dict[str, float]:
        """Gradients, of which each parameter's elements are alike, as they reach the optimizer.

        Args:
            elements: how many each parameter has.
        """
        found = dict(gradients)
        if (most := self.clip_value) is not None:
            found = {name: max(-most, min(most, gradient)) for name, gradient in found.items()}
        norm = math.sqrt(sum(elements[name] * gradient**2 for name, gradient in found.items()))
        if self.clip_norm is not None and norm > self.clip_norm:
            found = {name: gradient * self.clip_norm / norm for name, gradient in found.items()}
        return found

    def handed(self, clip_norm: float | None, promised: bool) -> Policies:
        """The same step's policies, seen or promised where it was handed :data:`CLIP_NORM`, where it is handed this.

        Args:
            clip_norm: 0 and ``None`` mean that nothing is clipped, and no norm too large.
            promised: its limit is a factor of what it is handed; else it is its own.
        """
        if clip_norm == CLIP_NORM:
            return self
        if not clip_norm:
            return replace(self, clip_norm=None, clip_value=None, norm_limit=None if promised else self.norm_limit)

        def scaled(number: float | None) -> float | None:
            return None if number is None else number * clip_norm / CLIP_NORM

        limit = scaled(self.norm_limit) if promised else self.norm_limit
        return replace(self, clip_norm=scaled(self.clip_norm), clip_value=scaled(self.clip_value), norm_limit=limit)


NAMES = ("clip-norm", "clip-value", "norm-limit", "drops-nonfinite-loss", "counts-attempts", "zero-clips-nothing")
"""As ``--promise`` takes them."""


def with_promises(policies: Policies, promises: Iterable[str]) -> Policies:
    """The policies with what is promised in place of what was found: each ``NAME=VALUE``, the value a number above 0,
    ``yes`` or ``no``; ``none`` for no clipping or no limit.

    Raises:
        UsageError: there is no such policy, or the value is none of its kind.
    """
    for promise in promises:
        name, _, value = promise.partition("=")
        if name not in NAMES:
            raise unknown_name("policy", name, NAMES)
        policies = replace(policies, **{name.replace("-", "_"): _value(name, value.strip().lower())})
    return policies


def _value(name: str, text: str) -> Any:
    if name in ("drops-nonfinite-loss", "counts-attempts", "zero-clips-nothing"):
        if text in ("yes", "no"):
            return text == "yes"
        raise UsageError(f"--promise {name}={text}: the value must be yes or no.")
    if text == "none":
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.0 < number < math.inf:
        raise UsageError(f"--promise {name}={text}: the value must be a number above 0, or none.")
    return number


PROMISED = Policies()
"""Of a step that is handed a clip norm and a norm factor: it promises to use them, and to look at its losses."""
