"""What a person debugging a negative loss or a skipped step wants in the log."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from gslrm.training.step_outcome import StepOutcome

_LOG = logging.getLogger(__name__)


class StepMonitor:
    """Warns of a loss outside its range, with the raw value, and of every skip, with the scaler's state.

    Args:
        low, high: the range the loss belongs in.
        logger: where to write; this module's logger by default.

    Reading a loss back costs a synchronisation on a GPU.
    """

    def __init__(self, low: float = 0.0, high: float = float("inf"), logger: logging.Logger | None = None) -> None:
        self.low, self.high = low, high
        self.logger = logger or _LOG

    def on_loss(self, pass_step: int, loss: Tensor) -> None:
        """Called with every micro-step's loss, before it is divided or scaled."""
        value = float(loss.detach())
        if not self.low <= value <= self.high:
            self.logger.warning(
                "pass %d: loss %.9g is outside [%g, %g] (1 - loss = %.9g)",
                pass_step,
                value,
                self.low,
                self.high,
                1.0 - value,
            )

    def on_outcome(self, pass_step: int, outcome: StepOutcome, scaler: torch.amp.GradScaler) -> None:
        """Called at the end of every accumulation window."""
        tracker = scaler._get_growth_tracker() if scaler.is_enabled() else 0
        level = logging.DEBUG if outcome.reason is None else logging.WARNING
        self.logger.log(
            level,
            "pass %d: %s, gradient norm %.6g, scaler scale %g, growth tracker %d",
            pass_step,
            "stepped" if outcome.reason is None else f"skipped ({outcome.reason.value})",
            outcome.grad_norm,
            outcome.scale,
            tracker,
        )
