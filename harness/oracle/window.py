"""What a right AMP step does at the end of an accumulation window, given its losses and gradients."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from harness.oracle.policies import PROMISED, Policies

# The setting that every fault program runs in.
GROWTH, BACKOFF = 2.0, 0.5


class Fault(str, enum.Enum):
    """Why a window must be dropped: the first of these that applies."""

    NONFINITE_LOSS = "a loss in the window was NaN or inf"
    NO_GRADIENTS = "no parameter got a gradient"
    NONFINITE_GRADIENTS = "a gradient was NaN or inf"
    LARGE_NORM = "the norm exceeds its limit"


@dataclass(frozen=True)
class ScalerState:
    """GradScaler's scale and the finite windows since it last changed."""

    scale: float
    growth_tracker: int


@dataclass(frozen=True)
class WindowOutcome:
    """What a right step does with a window.

    Attributes:
        stepped: the parameters move, by the gradients clipped as the policies say.
        why: in words, for messages.
        grad_norm: before clipping; ``None`` where no finite one exists.
        scaler: permitted states; more than one only where a non-finite loss may, but need not, count as an overflow.
        fault: of a window that is dropped.
    """

    stepped: bool
    why: str
    grad_norm: float | None
    scaler: tuple[ScalerState, ...]
    fault: Fault | None = None


def window_outcome(
    losses_are_finite: bool,
    norm: float | None,
    scaler: ScalerState,
    growth_interval: int | None,
    policies: Policies = PROMISED,
) -> WindowOutcome:
    """What the rule makes of an accumulation window.

    Args:
        losses_are_finite: of all its micro-steps.
        norm: L2 norm of the unscaled gradients; inf or NaN where one isn't finite, ``None`` where there are none.
        scaler: before.
        growth_interval: finite windows after which the scale doubles; ``None`` without a scaler.
        policies: of the step.
    """

    def updated(found_inf: bool) -> ScalerState:
        if growth_interval is None:
            return scaler
        if found_inf:
            return ScalerState(scaler.scale * BACKOFF, 0)
        if scaler.growth_tracker + 1 < growth_interval:
            return ScalerState(scaler.scale, scaler.growth_tracker + 1)
        return ScalerState(scaler.scale * GROWTH, 0)

    def dropped(
        fault: Fault, *permitted: ScalerState, finite_norm: float | None = None, why: str = ""
    ) -> WindowOutcome:
        return WindowOutcome(False, why or fault.value, finite_norm, tuple(dict.fromkeys(permitted)), fault)

    if not losses_are_finite and policies.drops_nonfinite_loss:
        also = () if norm is None else (updated(found_inf=not math.isfinite(norm)),)
        return dropped(Fault.NONFINITE_LOSS, scaler, *also)
    if norm is None:
        return dropped(Fault.NO_GRADIENTS, scaler)
    if not math.isfinite(norm):
        return dropped(Fault.NONFINITE_GRADIENTS, updated(found_inf=True))
    after, limit = updated(found_inf=False), policies.norm_limit
    if limit is not None and norm > limit:
        return dropped(Fault.LARGE_NORM, after, finite_norm=norm, why=f"the norm {norm:.4g} exceeds {limit:g}")
    return WindowOutcome(True, "all was finite and in bounds", norm, (after,))
