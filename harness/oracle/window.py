"""What a right AMP step does at the end of an accumulation window, told from the losses and gradients that it found."""

from __future__ import annotations

import math
from dataclasses import dataclass

# The setting that every fault program runs in.
CLIP_NORM, NORM_FACTOR = 1.0, 20.0
GROWTH, BACKOFF = 2.0, 0.5


@dataclass(frozen=True)
class ScalerState:
    """GradScaler's scale and the finite windows since it last changed."""

    scale: float
    growth_tracker: int


@dataclass(frozen=True)
class Settlement:
    """What a right step does with a window.

    Attributes:
        stepped: the parameters move, by the gradients clipped to ``CLIP_NORM``.
        why: in words, for messages.
        grad_norm: before clipping; ``None`` where no finite one exists.
        scaler: permitted states; more than one only where a non-finite loss may, but need not, count as an overflow.
    """

    stepped: bool
    why: str
    grad_norm: float | None
    scaler: tuple[ScalerState, ...]


def settle(losses_are_finite: bool, norm: float | None, scaler: ScalerState, growth_interval: int | None) -> Settlement:
    """Settle a window.

    Args:
        losses_are_finite: of all its micro-steps.
        norm: L2 norm of the unscaled gradients; inf or NaN where one isn't finite, ``None`` where there are none.
        scaler: before.
        growth_interval: finite windows after which the scale doubles; ``None`` without a scaler.
    """

    def updated(found_inf: bool) -> ScalerState:
        if growth_interval is None:
            return scaler
        if found_inf:
            return ScalerState(scaler.scale * BACKOFF, 0)
        if scaler.growth_tracker + 1 < growth_interval:
            return ScalerState(scaler.scale, scaler.growth_tracker + 1)
        return ScalerState(scaler.scale * GROWTH, 0)

    if not losses_are_finite:
        also = () if norm is None else (updated(found_inf=not math.isfinite(norm)),)
        return Settlement(False, "a loss in the window was NaN or inf", None, tuple(dict.fromkeys((scaler, *also))))
    if norm is None:
        return Settlement(False, "no parameter got a gradient", None, (scaler,))
    if not math.isfinite(norm):
        return Settlement(False, "a gradient was NaN or inf", None, (updated(found_inf=True),))
    after = (updated(found_inf=False),)
    if norm > CLIP_NORM * NORM_FACTOR:
        return Settlement(False, f"the norm {norm:.4g} exceeds {CLIP_NORM * NORM_FACTOR:g}", norm, after)
    return Settlement(True, "all was finite and in bounds", norm, after)
