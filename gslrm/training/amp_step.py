"""One AMP optimizer step: unscale, look, clip, skip or step, update the scaler, advance the schedule, clear.

Accumulation windows
    ``grad_accum_steps`` calls of :meth:`AmpStep.backward` make a window; the last one's :meth:`AmpStep.step` ends it.
    A window is used whole or dropped whole.

What happens at the end of a window

    ==================  ============  =========================  ========================
    window              parameters    scaler (fp16 only)         counters and schedule
    ==================  ============  =========================  ========================
    NaN or inf loss     unchanged     untouched                  unchanged
    no gradient at all  unchanged     untouched                  unchanged
    NaN or inf gradient unchanged     backs off                  unchanged
    norm over limit     unchanged     counts a finite window     unchanged
    otherwise           stepped       counts a finite window     advance by one
    ==================  ============  =========================  ========================

    A non-finite *loss* comes out of the forward pass, which the scale does not reach, so it says nothing about the
    scale: backing off for it would, fault by fault, drive the scale down until gradients vanish in half precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from gslrm.training.monitor import StepMonitor
from gslrm.training.step_outcome import SkipReason, StepOutcome


class AmpStep:
    """Accumulates scaled gradients and ends each window without ever raising because it had to skip.

    Args:
        optimizer: its ``param_groups`` name the parameters.
        scaler: ``torch.amp.GradScaler``, enabled for float16; for bfloat16 and float32 pass a disabled one or ``None``.
        lr_scheduler: stepped once for each optimizer step, or ``None``.
        grad_accum_steps: micro-steps in a window, at least 1.
        grad_clip_norm: gradients are clipped to this norm; 0 or ``None`` leaves them.
        allowed_gradnorm_factor: the step is skipped when the norm exceeds ``grad_clip_norm`` times this factor.
        monitor: told of every micro-step and outcome, or ``None``.
        agree: for several processes: takes this process's verdicts, a float tensor that is 1 where bad, and
            returns their maximum over all processes, so that all decide alike; or ``None``.

    Raises:
        ValueError: a setting out of its range.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler | None = None,
        lr_scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
        *,
        grad_accum_steps: int = 1,
        grad_clip_norm: float | None = 1.0,
        allowed_gradnorm_factor: float = 20.0,
        monitor: StepMonitor | None = None,
        agree: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if grad_accum_steps < 1:
            raise ValueError(f"grad_accum_steps must be at least 1, not {grad_accum_steps}.")
        if grad_clip_norm is not None and not 0 <= grad_clip_norm < math.inf:
            raise ValueError(f"grad_clip_norm must be 0 or a positive number, not {grad_clip_norm}.")
        if not allowed_gradnorm_factor >= 1:
            raise ValueError(f"allowed_gradnorm_factor must be at least 1, not {allowed_gradnorm_factor}.")
        if scaler is not None and scaler.is_enabled():
            halves = [p for group in optimizer.param_groups for p in group["params"] if p.dtype == torch.float16]
            if halves:
                raise ValueError(
                    f"{len(halves)} parameters are float16: a GradScaler works on float32 parameters under "
                    f"autocast; convert the model with .float()."
                )
        self.optimizer = optimizer
        self.scaler = scaler if scaler is not None else torch.amp.GradScaler("cpu", enabled=False)
        self.lr_scheduler = lr_scheduler
        self.grad_accum_steps = grad_accum_steps
        self.grad_clip_norm = grad_clip_norm or 0.0
        self.allowed_gradnorm_factor = allowed_gradnorm_factor
        self.monitor = monitor
        self.agree = agree
        self.fwdbwd_pass_step = 0
        self.param_update_step = 0
        self._window_passes = 0
        self._loss_is_bad: Tensor | None = None

    @property
    def window_is_full(self) -> bool:
        """Whether the next thing due is :meth:`step`."""
        return self._window_passes >= self.grad_accum_steps

    @property
    def next_backward_ends_window(self) -> bool:
        """Whether the coming micro-step is its window's last: the one on which DDP must synchronise."""
        return self._window_passes + 1 >= self.grad_accum_steps

    def backward(self, loss: Tensor) -> None:
        """Back-propagate one micro-step's loss, divided by ``grad_accum_steps`` and scaled.

        A NaN or inf loss is back-propagated too: under DDP the other processes wait for its gradients.

        Raises:
            RuntimeError: the window is full and :meth:`step` has not been called.
            ValueError: the loss is no scalar.
        """
        if self.window_is_full:
            raise RuntimeError(
                f"backward() was called {self.grad_accum_steps + 1} times in a window of "
                f"{self.grad_accum_steps}: call step() first."
            )
        if loss.numel() != 1:
            raise ValueError(f"the loss must be a scalar, but has shape {tuple(loss.shape)}.")
        bad = (~torch.isfinite(loss.detach())).reshape(())
        self._loss_is_bad = bad if self._loss_is_bad is None else self._loss_is_bad | bad
        if self.monitor is not None:
            self.monitor.on_loss(self.fwdbwd_pass_step, loss)
        # A loss without a graph (all parameters frozen) has nothing to send back.
        if loss.requires_grad:
            self.scaler.scale(loss / self.grad_accum_steps).backward()
        self.fwdbwd_pass_step += 1
        self._window_passes += 1

    def step(self) -> StepOutcome | None:
        """End the window if it is full and say what happened; ``None`` while it is still open."""
        if not self.window_is_full:
            return None
        outcome = self._end_window()
        self.optimizer.zero_grad(set_to_none=True)
        self._window_passes = 0
        self._loss_is_bad = None
        if self.monitor is not None:
            self.monitor.on_outcome(self.fwdbwd_pass_step, outcome, self.scaler)
        return outcome

    def _end_window(self) -> StepOutcome:
        gradients = list(self._gradients())
        loss_is_bad, nothing_to_do = self._agreed(self._loss_is_bad, not gradients)
        if loss_is_bad:
            return self._skipped(SkipReason.NONFINITE_LOSS, math.nan)
        if nothing_to_do:
            # GradScaler has recorded no inf check, so neither its step() nor its update() may be called.
            return self._skipped(SkipReason.NO_GRADIENTS, math.nan)

        self.scaler.unscale_(self.optimizer)
        norm = _total_norm(gradients)
        limit = self.grad_clip_norm * self.allowed_gradnorm_factor
        nonfinite, over_limit = self._agreed(not math.isfinite(norm), 0 < limit < norm)
        if nonfinite:
            self.scaler.update()
            return self._skipped(SkipReason.NONFINITE_GRADIENTS, norm)
        if over_limit:
            self.scaler.update()
            return self._skipped(SkipReason.NORM_OVER_LIMIT, norm)

        if 0 < self.grad_clip_norm < norm:
            for gradient in gradients:
                gradient.mul_(self.grad_clip_norm / norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.param_update_step += 1
        if self.lr_scheduler is not None:
            self.lr_scheduler.step()
        return StepOutcome(True, None, norm, self._scale())

    def _gradients(self) -> Iterable[Tensor]:
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    yield parameter.grad

    def _agreed(self, *verdicts: Tensor | bool | None) -> list[bool]:
        """This process's verdicts, or with ``agree`` those of all processes taken together."""
        if self.agree is None:
            return [bool(verdict) for verdict in verdicts]
        device = self.optimizer.param_groups[0]["params"][0].device
        flags = torch.stack([torch.as_tensor(bool(v), dtype=torch.float32) for v in verdicts]).to(device)
        return [bool(flag) for flag in self.agree(flags).tolist()]

    def _skipped(self, reason: SkipReason, norm: float) -> StepOutcome:
        return StepOutcome(False, reason, norm, self._scale())

    def _scale(self) -> float:
        return float(self.scaler.get_scale())

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs for the same numbers: optimizer, scaler, schedule, counters, and the gradients
        of a window that is still open. Tensors and plain values only, so ``torch.load(weights_only=True)`` reads it.
        """
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "lr_scheduler": None if self.lr_scheduler is None else self.lr_scheduler.state_dict(),
            "fwdbwd_pass_step": self.fwdbwd_pass_step,
            "param_update_step": self.param_update_step,
            "window": {
                "passes": self._window_passes,
                "loss_is_bad": bool(self._loss_is_bad) if self._loss_is_bad is not None else False,
                "gradients": [None if p.grad is None else p.grad.detach().clone() for p in parameters],
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`'s result.

        Raises:
            ValueError: the state has other parameters, or an entry is missing.
        """
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        expected = {
            "optimizer",
            "scaler",
            "lr_scheduler",
            "fwdbwd_pass_step",
            "param_update_step",
            "window",
        }
        if missing := expected - set(state):
            raise ValueError(f"the step's saved state lacks {', '.join(sorted(missing))}.")
        window = state["window"]
        if len(window["gradients"]) != len(parameters):
            raise ValueError(
                f"the step's saved state is of {len(window['gradients'])} parameters, "
                f"but the optimizer has {len(parameters)}."
            )
        if self.scaler.is_enabled() and not state["scaler"]:
            raise ValueError("the step's saved state has no scaler, but the scaler is enabled: it was saved without.")
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        if self.lr_scheduler is not None and state["lr_scheduler"] is not None:
            self.lr_scheduler.load_state_dict(state["lr_scheduler"])
        self.fwdbwd_pass_step = int(state["fwdbwd_pass_step"])
        self.param_update_step = int(state["param_update_step"])
        self._window_passes = int(window["passes"])
        self._loss_is_bad = torch.tensor(window["loss_is_bad"], device=parameters[0].device)
        for parameter, gradient in zip(parameters, window["gradients"], strict=True):
            parameter.grad = None if gradient is None else gradient.to(parameter.device, copy=True)
            if gradient is not None:
                # A fresh GradScaler makes its scale on first use, and these gradients may see no further loss.
                self.scaler.scale(torch.zeros((), device=parameter.device))


def _total_norm(gradients: list[Tensor]) -> float:
    """L2 norm over all gradients, summed in float64: finite float32 gradients always have a finite norm."""
    norms = [torch.linalg.vector_norm(gradient, dtype=torch.float64) for gradient in gradients]
    return float(torch.linalg.vector_norm(torch.stack([norm.to(norms[0].device) for norm in norms])))
