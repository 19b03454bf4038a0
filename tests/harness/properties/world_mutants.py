"""Steps that are right in the simplest world, and wrong where a real training is another: each as it is written."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from gslrm.training.amp_step import AmpStep
from gslrm.training.step_outcome import SkipReason, StepOutcome


class ClipsAtOne(AmpStep):
    """Knows one clip norm."""

    def __init__(self, *arguments: Any, grad_clip_norm: float | None = 1.0, **settings: Any) -> None:
        super().__init__(*arguments, grad_clip_norm=grad_clip_norm and 1.0, **settings)


class ZeroClipsAll(AmpStep):
    """Hands 0 to ``clip_grad_norm_``, which makes all gradients 0."""

    def step(self) -> StepOutcome | None:
        if self.grad_clip_norm == 0.0:
            for gradient in self._gradients():
                gradient.zero_()
        return super().step()


class NoneClipsAtOne(AmpStep):
    """Takes a clip norm of ``None`` for the default."""

    def __init__(self, *arguments: Any, grad_clip_norm: float | None = 1.0, **settings: Any) -> None:
        super().__init__(*arguments, grad_clip_norm=1.0 if grad_clip_norm is None else grad_clip_norm, **settings)


class LimitTooHigh(AmpStep):
    """Its limit is off by a seventeenth."""

    def __init__(self, *arguments: Any, allowed_gradnorm_factor: float = 20.0, **settings: Any) -> None:
        super().__init__(*arguments, allowed_gradnorm_factor=1.06 * allowed_gradnorm_factor, **settings)


class ClipsElements(AmpStep):
    """Clips each element as if all were alike."""

    def step(self) -> StepOutcome | None:
        if self.window_is_full and self.grad_clip_norm and (gradients := list(self._gradients())):
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            scale = self.scaler.get_scale()
            if flat.norm() <= scale * self.grad_clip_norm * self.allowed_gradnorm_factor:
                most = scale * self.grad_clip_norm / math.sqrt(len(flat))
                for gradient in gradients:
                    gradient.clamp_(-most, most)
        return super().step()


class LooksAtTheFirst(AmpStep):
    """Where the first gradient is finite, takes the others for it, and NaN in them for 0."""

    def step(self) -> StepOutcome | None:
        gradients = list(self._gradients())
        if self.window_is_full and gradients and bool(torch.isfinite(gradients[0]).all()):
            for gradient in gradients[1:]:
                gradient.nan_to_num_(0.0, 0.0, 0.0)
        return super().step()


class FillsInZeros(AmpStep):
    """Gives a parameter without a gradient one of zeros: it decays."""

    def step(self) -> StepOutcome | None:
        if self.window_is_full and any(True for _ in self._gradients()):
            for parameter in (p for group in self.optimizer.param_groups for p in group["params"]):
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
        return super().step()


class NeedsAllGradients(AmpStep):
    """Takes it that a trained parameter has a gradient."""

    def step(self) -> StepOutcome | None:
        if self.window_is_full and any(True for _ in self._gradients()):
            for group in self.optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad.detach()
        return super().step()


class OneRate(AmpStep):
    """Gives every group the first one's learning rate."""

    def step(self) -> StepOutcome | None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.optimizer.param_groups[0]["lr"]
        return super().step()


class KnowsTheFirstGroups(AmpStep):
    """Keeps the list of parameters that it began with: what joins later isn't clipped."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._known = [p for group in self.optimizer.param_groups for p in group["params"]]

    def _gradients(self) -> Any:
        return (p.grad for p in self._known if p.grad is not None)


class TrustsFused(AmpStep):
    """Leaves it to a fused optimizer to skip, and doesn't tell it of the overflow."""

    def _end_window(self) -> StepOutcome:
        gradients = list(self._gradients())
        if not self.optimizer.defaults.get("fused") or bool(self._loss_is_bad) or not gradients:
            return super()._end_window()
        self.scaler.unscale_(self.optimizer)
        norm = float(torch.cat([gradient.flatten() for gradient in gradients]).norm())
        over = 0 < self.grad_clip_norm * self.allowed_gradnorm_factor < norm
        if not over:
            for gradient in gradients:
                gradient.mul_(min(1.0, self.grad_clip_norm / norm) if norm > 0 and self.grad_clip_norm else 1.0)
            self.optimizer.step()
        self.scaler.update()
        return StepOutcome(not over, SkipReason.NORM_OVER_LIMIT if over else None, norm, self._scale())


class ReadsMomenta(AmpStep):
    """Reads the optimizer's state as plain SGD keeps it."""

    def step(self) -> StepOutcome | None:
        outcome = super().step()
        for state in self.optimizer.state.values():
            state["momentum_buffer"].detach()
        return outcome


class ForeachTwice(AmpStep):
    """Clips a foreach optimizer's gradients by a path of its own, which leaves out the last."""

    def step(self) -> StepOutcome | None:
        kept = [gradient.clone() for gradient in self._gradients()]
        if self.window_is_full and kept and self.optimizer.defaults.get("foreach"):
            list(self._gradients())[-1].mul_(0.5)
        return super().step()


class LogsTheRate(AmpStep):
    """Asks a schedule that isn't there."""

    def step(self) -> StepOutcome | None:
        outcome = super().step()
        self.lr_scheduler.get_last_lr()  # type: ignore[union-attr]
        return outcome


class HalvesThree(AmpStep):
    """Divides by the next lower power of two."""

    def backward(self, loss: Tensor) -> None:
        number = self.grad_accum_steps
        super().backward(loss * (number / (1 << number.bit_length() - 1)))


class StopsCounting(AmpStep):
    """Its schedule ends after thirty updates."""

    def step(self) -> StepOutcome | None:
        schedule = self.lr_scheduler
        self.lr_scheduler = schedule if self.param_update_step < 30 else None
        try:
            return super().step()
        finally:
            self.lr_scheduler = schedule


class CapsTheScale(AmpStep):
    """Keeps the scale under 2²¹."""

    def step(self) -> StepOutcome | None:
        outcome = super().step()
        if outcome is not None and self.scaler.is_enabled() and self.scaler.get_scale() > 2.0**21:
            self.scaler.update(2.0**21)
        return outcome


class FloorsTheScale(AmpStep):
    """Keeps the scale over 1."""

    def step(self) -> StepOutcome | None:
        outcome = super().step()
        if outcome is not None and self.scaler.is_enabled() and self.scaler.get_scale() < 1.0:
            self.scaler.update(1.0)
        return outcome


class RemembersItself(AmpStep):
    """Counts in the class, where a training that went on has counted further."""

    _counted: ClassVar[int] = 0

    def step(self) -> StepOutcome | None:
        outcome = super().step()
        type(self)._counted = self.param_update_step
        return outcome

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if self.param_update_step:
            self.param_update_step = type(self)._counted


class SavesObjects(AmpStep):
    """Saves what is no plain value, and what ``torch.load(weights_only=True)`` refuses."""

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "reasons": [SkipReason.NO_GRADIENTS]}


def averages_always(
    loss: Tensor, optimizer: Any, scaler: Any, scheduler: Any, parameters: Any, ema: Any, last: bool
) -> None:
    """Updates the average whether or not the scaler skipped."""
    _guarded(loss, optimizer, scaler, scheduler, parameters, ema, last, always=True)


def averages(loss: Tensor, optimizer: Any, scaler: Any, scheduler: Any, parameters: Any, ema: Any, last: bool) -> None:
    """No mutant: updates it with the parameters."""
    _guarded(loss, optimizer, scaler, scheduler, parameters, ema, last, always=False)


def _guarded(
    loss: Tensor, optimizer: Any, scaler: Any, scheduler: Any, parameters: Any, ema: Any, last: bool, always: bool
) -> None:
    scaler.scale(loss).backward()
    if not last:
        return
    if any(p.grad is not None for p in parameters):
        scaler.unscale_(optimizer)
        finite = bool(torch.isfinite(torch.nn.utils.clip_grad_norm_(parameters, 1.0)))
        if finite:
            scaler.step(optimizer)
            scheduler.step()
        if finite or always:
            ema.update(parameters)
        scaler.update()
    optimizer.zero_grad(set_to_none=True)
