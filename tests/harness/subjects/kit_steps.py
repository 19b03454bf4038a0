"""Steps made with the public kit, for the tests: right ones, wrong ones and misfits."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from harness.adapters import Step


class Together(Step):
    """Right: several optimizers that step together or not at all, and averages that follow."""

    promises = ("norm-limit=none", "counts-attempts=no")
    updates = 0

    def begin(self, optimizers: Any, scaler: Any, schedulers: Any) -> None:
        self._optimizers, self._scaler, self._schedulers = optimizers, scaler, schedulers

    def step(self, loss: Tensor, parameters: Any, model: Any, ema: Any, last: bool) -> None:
        self._scaler.scale(loss).backward()
        if not last:
            return
        if gradients := [p.grad for p in parameters if p.grad is not None]:
            for optimizer in self._optimizers:
                self._scaler.unscale_(optimizer)
            if all(math.isfinite(float(gradient.abs().max())) for gradient in gradients):
                self.clip()
                for optimizer, scheduler in zip(self._optimizers, self._schedulers, strict=True):
                    self._scaler.step(optimizer)
                    scheduler.step()
                ema.update_parameters(model)
                self.updates += 1
            self._scaler.update()
        for optimizer in self._optimizers:
            optimizer.zero_grad()

    def clip(self) -> None:
        """Nothing."""

    def state_dict(self) -> dict[str, Any]:
        every = (*self._optimizers, *self._schedulers, self._scaler)
        return {"all": [each.state_dict() for each in every], "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        every = (*self._optimizers, *self._schedulers, self._scaler)
        for each, saved in zip(every, state["all"], strict=True):
            each.load_state_dict(saved)
        self.updates = state["updates"]


class ForgetsTheScaler(Together):
    """Wrong: the scale isn't saved."""

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return state | {"all": [*state["all"][:-1], {}]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        every = (*self._optimizers, *self._schedulers)
        for each, saved in zip(every, state["all"], strict=False):
            each.load_state_dict(saved)
        self.updates = state["updates"]


class OneScheduleRuns(Together):
    """Wrong: the second schedule advances on every window."""

    def step(self, loss: Tensor, parameters: Any, model: Any, ema: Any, last: bool) -> None:
        updates = self.updates
        super().step(loss, parameters, model, ema, last)
        if last and self.updates == updates:
            self._schedulers[1].step()


class BreaksItsPromise(Together):
    """Wrong: it says that it drops norms over 5."""

    promises = ("norm-limit=5",)


class ClipsApart(Together):
    """Right: each optimizer's gradients are clipped by their own norm, to 2."""

    def clip(self) -> None:
        for optimizer in self._optimizers:
            nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 2.0)


class ClipsAsHanded(Step):
    """Right: to the norm that it is handed, 0 and none meaning none; and it needs no schedule."""

    def step(
        self,
        loss: Tensor,
        optimizer: Any,
        scaler: Any,
        parameters: Any,
        clip_norm: float | None,
        last: bool,
        scheduler: Any = None,
    ) -> None:
        scaler.scale(loss).backward()
        if not last:
            return
        if gradients := [p.grad for p in parameters if p.grad is not None]:
            scaler.unscale_(optimizer)
            norm = float(nn.utils.get_total_norm(gradients))
            if self.allows(norm, clip_norm):
                if clip_norm:
                    nn.utils.clip_grad_norm_(parameters, self.norm(clip_norm))
                scaler.step(optimizer)
                self.advance(scheduler)
            scaler.update()
        optimizer.zero_grad()

    def allows(self, norm: float, clip_norm: float | None) -> bool:
        return math.isfinite(norm)

    def norm(self, clip_norm: float) -> float:
        return clip_norm

    def advance(self, scheduler: Any) -> None:
        if scheduler is not None:
            scheduler.step()


class LimitsAsHanded(ClipsAsHanded):
    """Right: it drops a norm over 20 times the one that it is handed, which nobody can know."""

    def allows(self, norm: float, clip_norm: float | None) -> bool:
        return math.isfinite(norm) and not (clip_norm and norm > 20.0 * clip_norm)


class ClipsAtOne(ClipsAsHanded):
    """Wrong where it is handed another norm."""

    def norm(self, clip_norm: float) -> float:
        return 1.0


class NeedsItsSchedule(ClipsAsHanded):
    """Wrong where there is none."""

    def advance(self, scheduler: Any) -> None:
        scheduler.step()


def high_limit(loss: Tensor, optimizer: Any, scheduler: Any, parameters: Any, last: bool) -> None:
    """Right without a scaler: drops a norm over 1000, and cuts elements at 40."""
    loss.backward()
    if last:
        finite = [p.grad for p in parameters if p.grad is not None]
        if finite and float(nn.utils.get_total_norm(finite)) <= 1000.0:
            nn.utils.clip_grad_value_(parameters, 40.0)
            optimizer.step()
            scheduler.step()
        optimizer.zero_grad()


class WantsAnEpoch(Step):
    """No fit: nothing has an epoch."""

    def step(self, loss: Tensor, epoch: int, last: bool) -> None:
        loss.backward()


class BeginsWithALoss(Step):
    """No fit: there is no loss yet when it begins."""

    def begin(self, loss: Tensor) -> None: ...

    def step(self, loss: Tensor) -> None:
        loss.backward()


class HasNoStep(Step):
    """No fit."""


class RaisesWhenItBegins(Step):
    """No fit."""

    def begin(self, optimizer: Any) -> None:
        raise ValueError("no data")

    def step(self, loss: Tensor) -> None:
        loss.backward()


class RaisesWhenItsShapeIsOurs:
    """No fit: the constructor raises."""

    def __init__(self, optimizer: Any, scaler: Any, lr_scheduler: Any, **settings: Any) -> None:
        raise OSError("no checkpoint")

    def backward(self, loss: Tensor) -> None: ...

    def step(self) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def wants_an_epoch(loss: Tensor, optimizer: Any, epoch: int) -> None:
    """No fit."""
    loss.backward()


def gives_a_dictionary(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """No loss: it must be one number."""
    return {"loss": (x - y).square().mean()}
