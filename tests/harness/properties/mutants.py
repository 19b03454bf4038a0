"""Subjects that break one promise each, so that the property named for it can be seen to notice."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gslrm.model.utils_losses import MaskedSsimLoss
from gslrm.training.amp_step import AmpStep
from gslrm.training.step_outcome import SkipReason, StepOutcome

_RIGHT = MaskedSsimLoss()


def _right(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    value: Tensor = _RIGHT(rendering, target, mask)
    return value


def break_range(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target, mask) - 1e-3


def break_finite(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target, mask).sqrt()


def break_finite_detached(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target, mask).detach()


def break_finite_constant(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Returns early where there is nothing to look at."""
    return _right(rendering, target, mask) if bool((mask > 0.5).any()) else torch.zeros(())


def break_identity(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target, mask) + 1e-5 * (rendering * mask).sum()


def break_accuracy(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target, mask) * 1.002


def break_gradient_accuracy(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    value = _right(rendering, target, mask)
    return value.detach() + 1.002 * (value - value.detach())


def break_gradient_accuracy_detached(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target, mask).detach()


break_gradient_alive_detached = break_gradient_accuracy_detached


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


def break_empty_mask_gradient(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Its value is right everywhere, but a square root's gradient at 0 is inf, and 0 · inf is NaN."""
    return _right(rendering, target, mask) + 0.0 * ((rendering - target) * mask).square().sum().sqrt()


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


def break_side_effects_python(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    random.random()
    return _right(rendering, target, mask)


def break_side_effects_numpy(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    np.random.rand()
    return _right(rendering, target, mask)


def break_side_effects_anomaly(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    torch.autograd.set_detect_anomaly(True)
    return _right(rendering, target, mask)


def break_side_effects_hooks(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
    return _right(rendering, target, mask)


def break_modes(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target, mask) * (0.5 if torch.is_inference_mode_enabled() else 1.0)


class break_modes_eval(torch.nn.Module):
    def forward(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        return _right(rendering, target, mask) * (1.0 if self.training else 0.5)


class break_modes_copy:
    def __init__(self) -> None:
        self.share = 1.0

    def __deepcopy__(self, memo: dict[int, Any]) -> break_modes_copy:
        other = break_modes_copy()
        other.share = 0.5
        return other

    def __call__(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        return self.share * _right(rendering, target, mask)


def break_accuracy_large(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target, mask) * (0.5 if rendering.shape[-1] > 90 else 1.0)


def break_accuracy_many(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target, mask) * (0.5 if len(rendering) > 4 else 1.0)


def break_accuracy_wide(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target, mask) * (0.5 if rendering.shape[-1] > 4 * rendering.shape[-2] else 1.0)


def break_gradient_accuracy_overshoot(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering.clamp(0.0, 1.0), target, mask)


def break_strides_expanded(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target, mask) * (0.5 if 0 in target.stride() else 1.0)


class break_repeatable:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        self.calls += 1
        return _right(rendering, target, mask) + 1e-7 * self.calls


class break_repeatable_gradient:
    """Its value is the same each time."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        self.calls += 1
        value = _right(rendering, target, mask)
        return value.detach() + self.calls * (value - value.detach())


class _UpstreamLeftOut(torch.autograd.Function):
    """The identity, whose backward pass gives 1 whatever comes in."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        return torch.ones_like(upstream)


def break_upstream_gradient(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    value: Tensor = _UpstreamLeftOut.apply(_right(rendering, target, mask))
    return value


class _BufferUsedUp(torch.autograd.Function):
    """The identity, whose backward pass writes over what it kept."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        ctx.factor = torch.ones_like(value)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        gradient: Tensor = upstream * ctx.factor
        ctx.factor.mul_(0.5)
        return gradient


def break_upstream_gradient_second(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    value: Tensor = _BufferUsedUp.apply(_right(rendering, target, mask))
    return value


class _UpstreamNormalised(torch.autograd.Function):
    """The identity, whose backward pass divides by what comes in and multiplies by it again."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        gradient: Tensor = upstream / upstream.abs() * upstream.abs()
        return gradient


def break_upstream_gradient_zero(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    value: Tensor = _UpstreamNormalised.apply(_right(rendering, target, mask))
    return value


def always_nan(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Wrong in much, but the same each time, in whatever order and layout."""
    return _right(rendering, target, mask) * torch.nan


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


class break_counters_passes(AmpStep):
    """Counts no pass whose loss is bad."""

    def backward(self, loss: Tensor) -> None:
        super().backward(loss)
        self.fwdbwd_pass_step -= not bool(torch.isfinite(loss))


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


class break_truthful_reason(AmpStep):
    """Knows only one reason."""

    def step(self) -> StepOutcome | None:
        outcome = super().step()
        if outcome is None or outcome.stepped:
            return outcome
        return StepOutcome(False, SkipReason.NONFINITE_LOSS, outcome.grad_norm, outcome.scale)


class break_truthful_kept(AmpStep):
    """Goes on giving the last reason when it steps again."""

    reason: SkipReason | None = None

    def step(self) -> StepOutcome | None:
        outcome = super().step()
        if outcome is None:
            return None
        self.reason = outcome.reason or self.reason
        return StepOutcome(outcome.stepped, self.reason, outcome.grad_norm, outcome.scale)


class OtherWords(AmpStep):
    """No mutant: it says what happens in words of its own, also when it steps."""

    words: ClassVar = {
        SkipReason.NONFINITE_LOSS: "grads or loss NaN",
        SkipReason.NO_GRADIENTS: "nothing to do",
        SkipReason.NONFINITE_GRADIENTS: "inf found",
        SkipReason.NORM_OVER_LIMIT: "skipped: too steep",
        None: "ok, norm clipped",
    }

    def step(self) -> Any:
        outcome = super().step()
        return outcome and SimpleNamespace(stepped=outcome.stepped, reason=self.words[outcome.reason])


class break_resume_raises(AmpStep):
    """Can't read what it wrote."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise KeyError("momentum")


class break_resume(AmpStep):
    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return {**state, "param_update_step": 0}
