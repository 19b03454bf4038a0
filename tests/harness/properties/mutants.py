"""Subjects that break one promise each, so that the property named for it can be seen to notice."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gslrm.model.utils_losses import MaskedSsimLoss
from gslrm.training.amp_step import AmpStep, StepOutcome

_RIGHT = MaskedSsimLoss()


def _right(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    value: Tensor = _RIGHT(rendering, target, mask)
    return value


def break_range(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target, mask) - 1e-3


def break_finite(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target, mask).sqrt()


def break_identity(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target, mask) + 1e-5 * (rendering * mask).sum()


def break_accuracy(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target, mask) * 1.002


def break_gradient_accuracy(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    value = _right(rendering, target, mask)
    return value.detach() + 1.002 * (value - value.detach())


def break_gradient_alive(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target, mask).clamp(max=0.5)


def break_symmetry(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target, mask) * (1.0 + 0.1 * (rendering.mean() > target.mean()))


def break_hidden_pixels(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target, mask) + 1e-9 * (rendering - target).square().mean()


def break_full_mask(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target, mask) * (0.99 if bool(mask.all()) else 1.0)


def break_empty_mask(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target, mask) + (rendering.sum() * 0.0 + float(not mask.any()))


def break_soft_mask(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target, (mask >= 0.5).to(mask.dtype))


def break_batch(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target, mask) * len(rendering)


def break_strides(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target, mask) * (1.0 if rendering.is_contiguous() else 1.01)


def break_side_effects(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    value = _right(rendering, target, mask)
    target.mul_(0.5)
    return value


def break_side_effects_random(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    torch.rand(1)
    return _right(rendering, target, mask)


def break_side_effects_modes(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    torch.set_autocast_enabled("cpu", not torch.is_autocast_enabled("cpu"))
    return _right(rendering, target, mask)


class break_repeatable:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        self.calls += 1
        return _right(rendering, target, mask) + 1e-7 * self.calls


def break_bad_input(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering.nan_to_num(0.0), target, mask)


class break_never_raises(AmpStep):
    def step(self) -> StepOutcome | None:
        outcome = super().step()
        if outcome is not None and not outcome.stepped:
            raise RuntimeError("skipped")
        return outcome


class break_no_gradients(AmpStep):
    def backward(self, loss: Tensor) -> None:
        super().backward(loss)
        assert any(p.grad is not None for group in self.optimizer.param_groups for p in group["params"])


class break_finite_parameters(AmpStep):
    def backward(self, loss: Tensor) -> None:
        if not bool(torch.isfinite(loss)):
            with torch.no_grad():
                self.optimizer.param_groups[0]["params"][0].mul_(loss)
        super().backward(loss)


class break_drops_bad_windows(AmpStep):
    """Turns NaN into zero and goes on."""

    def step(self) -> StepOutcome | None:
        for gradient in self._gradients():
            gradient.nan_to_num_(0.0, 0.0, 0.0)
        return super().step()


class break_right_update(AmpStep):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "grad_clip_norm": 2.0, "allowed_gradnorm_factor": 10.0})


class break_counters(AmpStep):
    def step(self) -> StepOutcome | None:
        outcome = super().step()
        self.param_update_step += outcome is not None and not outcome.stepped
        return outcome


class break_schedule(AmpStep):
    def step(self) -> StepOutcome | None:
        outcome = super().step()
        if outcome is not None and not outcome.stepped and self.lr_scheduler is not None:
            self.lr_scheduler.step()
        return outcome


class break_scale(AmpStep):
    def step(self) -> StepOutcome | None:
        outcome = super().step()
        if outcome is not None and self.scaler.is_enabled() and outcome.stepped:
            self.scaler.update(self.scaler.get_scale() * 1.5)
        return outcome


class break_gradients_cleared(AmpStep):
    def step(self) -> StepOutcome | None:
        kept = [g.clone() for g in self._gradients()]
        outcome = super().step()
        if outcome is not None and kept:
            self.optimizer.param_groups[0]["params"][0].grad = kept[0]
        return outcome


class break_truthful(AmpStep):
    def step(self) -> StepOutcome | None:
        outcome = super().step()
        return outcome and StepOutcome(True, None, outcome.grad_norm, outcome.scale)


class break_resume(AmpStep):
    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return {**state, "param_update_step": 0}
