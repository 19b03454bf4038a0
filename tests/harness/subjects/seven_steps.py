"""Seven steps of different make, for the tests: each does what its loop was seen to do, in our own words, and through
the library itself where pip has it (accelerate, mmengine).

timm can't be imported without torchvision, which the project doesn't need: its native scaler's call is written anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from harness.adapters import Step


class Recipe(Step):
    """PyTorch's own recipe for mixed precision, with clipping; the schedule waits where the scale fell."""

    def step(self, loss: Tensor, optimizer: Any, scaler: Any, scheduler: Any, parameters: Any, last: bool) -> None:
        scaler.scale(loss).backward()
        if last:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(parameters, 1.0)
            before = scaler.get_scale()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            if scaler.get_scale() >= before:
                scheduler.step()


class NanoGpt(Step):
    """nanoGPT's way: the iteration counts whatever the scaler did, and the rate follows it; the scaler isn't saved."""

    updates = 0

    def begin(self, optimizer: Any, scaler: Any, scheduler: Any, parameters: Any, clip_norm: float) -> None:
        self._optimizer, self._scaler, self._scheduler = optimizer, scaler, scheduler
        self._parameters, self._clip = parameters, clip_norm

    def step(self, loss: Tensor, last: bool) -> None:
        self._scaler.scale(loss).backward()
        if last:
            if self._clip != 0.0:
                self._scaler.unscale_(self._optimizer)
                nn.utils.clip_grad_norm_(self._parameters, self._clip)
            self._scaler.step(self._optimizer)
            self._scaler.update()
            self._optimizer.zero_grad(set_to_none=True)
            self._scheduler.step()
            self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self._optimizer.state_dict(), "rate": self._scheduler.state_dict(), "iter": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._optimizer.load_state_dict(state["optimizer"])
        self._scheduler.load_state_dict(state["rate"])
        self.updates = state["iter"]


class _NativeCall:
    """The call that timm's loop makes of its scaler: the norm is clipped where one is given, also where it is 0."""

    def __init__(self, scaler: Any) -> None:
        self._scaler = scaler

    def __call__(
        self, loss: Tensor, optimizer: Any, clip_grad: float | None, parameters: Sequence[Tensor], need_update: bool
    ) -> None:
        self._scaler.scale(loss).backward()
        if need_update:
            if clip_grad is not None:
                self._scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(parameters, clip_grad)
            self._scaler.step(optimizer)
            self._scaler.update()


class Timm(Step):
    """timm's way: a native scaler, and a loop that updates the averages and the schedule whatever it did."""

    updates = 0

    def begin(self, scaler: Any) -> None:
        self._native = _NativeCall(scaler)

    def step(
        self,
        loss: Tensor,
        optimizer: Any,
        scheduler: Any,
        parameters: Any,
        model: Any,
        ema: Any,
        clip_norm: float,
        last: bool,
    ) -> None:
        self._native(loss, optimizer, clip_norm, parameters, last)
        if last:
            optimizer.zero_grad()
            ema.update_parameters(model)
            scheduler.step()
            self.updates += 1


class Accelerate(Step):
    """accelerate's way, through accelerate."""

    def begin(self, optimizer: Any, scaler: Any, scheduler: Any) -> None:
        from accelerate import Accelerator

        self._accelerator = Accelerator(cpu=True)
        self._accelerator.scaler = scaler
        self._optimizer, self._scheduler = self._accelerator.prepare(optimizer, scheduler)

    def step(self, loss: Tensor, last: bool) -> None:
        self._accelerator.sync_gradients = last
        self._accelerator.backward(loss)
        self._optimizer.step()
        self._scheduler.step()
        self._optimizer.zero_grad()


class MMEngine(Step):
    """mmengine's way, through mmengine's wrapper of an optimizer; its hooks move the rate and the averages."""

    updates = 0

    def begin(self, optimizer: Any, scaler: Any) -> None:
        from mmengine.optim import AmpOptimWrapper

        # The wrapper wants a GPU when it is built, and nothing of one afterwards.
        with mock.patch.dict(AmpOptimWrapper.__init__.__globals__, is_cuda_available=lambda: True):
            self._wrapper = AmpOptimWrapper(optimizer=optimizer, clip_grad={"max_norm": 35.0})
        self._wrapper.loss_scaler = scaler

    def step(self, loss: Tensor, scheduler: Any, model: Any, ema: Any, last: bool) -> None:
        self._wrapper.backward(loss)
        if last:
            self._wrapper.step()
            self._wrapper.zero_grad()
            ema.update_parameters(model)
            scheduler.step()
            self.updates += 1


class Nerfstudio(Step):
    """nerfstudio's way: an optimizer for each group, one scaler, and schedules that wait together."""

    updates = 0

    def step(self, loss: Tensor, optimizers: Any, scaler: Any, schedulers: Any, last: bool) -> None:
        scaler.scale(loss).backward()
        if last:
            for optimizer in optimizers:
                if any(p.grad is not None for group in optimizer.param_groups for p in group["params"]):
                    scaler.step(optimizer)
            before = scaler.get_scale()
            scaler.update()
            if before <= scaler.get_scale():
                for scheduler in schedulers:
                    scheduler.step()
            for optimizer in optimizers:
                optimizer.zero_grad()
            self.updates += 1


class FaceLift:
    """FaceLift's way: a trainer that replaces what isn't finite, and drops a window over its limit."""

    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    lr_scheduler: Any
    optim_param_list: list[nn.Parameter]
    config: Any
    fwdbwd_pass_step: int
    param_update_step: int

    def optimizer_step(self, result: Any) -> None:
        runtime = self.config.training.runtime
        if self.fwdbwd_pass_step % runtime.grad_accum_steps:
            return
        drop = not bool(torch.isfinite(result.loss))
        if not drop:
            self.scaler.unscale_(self.optimizer)
            for parameter in self.optim_param_list:
                if parameter.grad is not None:
                    torch.nan_to_num_(parameter.grad, nan=0.0, posinf=0.0, neginf=0.0)
            norm = nn.utils.clip_grad_norm_(self.optim_param_list, runtime.grad_clip_norm)
            drop = bool(norm > runtime.grad_clip_norm * runtime.allowed_gradnorm_factor)
        if not drop:
            self.scaler.step(self.optimizer)
            self.param_update_step += 1
        self.scaler.update()
        self.lr_scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
