"""What a training step says of an accumulation window."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class SkipReason(str, enum.Enum):
    """Why a window's gradients were dropped."""

    NONFINITE_LOSS = "nonfinite_loss"
    NO_GRADIENTS = "no_gradients"
    NONFINITE_GRADIENTS = "nonfinite_gradients"
    NORM_OVER_LIMIT = "norm_over_limit"


@dataclass(frozen=True)
class StepOutcome:
    """What the end of one accumulation window did.

    Attributes:
        stepped: the optimizer moved the parameters.
        reason: why not, or ``None``.
        grad_norm: L2 norm of the unscaled gradients before clipping; NaN where there were none or the loss was not
            finite, inf or NaN where a gradient was not finite.
        scale: the loss scale for the next window (1 without a scaler).
    """

    stepped: bool
    reason: SkipReason | None
    grad_norm: float
    scale: float
