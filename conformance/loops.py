"""Training steps through public libraries, each in the order in which the library's own loop makes the calls.

``begin`` puts the harness' optimizer, scaler and schedule before the library, and ``step`` is what a loop does with a
micro-step's loss.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

from torch import Tensor

from harness.adapters import Step


class Accelerate(Step):
    """accelerate: its optimizer skips what the scaler skips, and its scheduler asks the optimizer."""

    def begin(self, optimizer: Any, scaler: Any, scheduler: Any) -> None:
        from accelerate import Accelerator

        self._accelerator = Accelerator(cpu=True)
        # Of its own it has none without a GPU.
        self._accelerator.scaler = scaler
        self._optimizer, self._scheduler = self._accelerator.prepare(optimizer, scheduler)

    def step(self, loss: Tensor, last: bool) -> None:
        self._accelerator.sync_gradients = last
        self._accelerator.backward(loss)
        self._optimizer.step()
        self._scheduler.step()
        self._optimizer.zero_grad()


class Lightning(Step):
    """Lightning Fabric: its precision plugin scales and steps; the loop around it advances the schedule by the step."""

    updates = 0

    def begin(self, optimizer: Any, scaler: Any) -> None:
        from lightning_fabric.plugins.precision.amp import MixedPrecision

        self._plugin = MixedPrecision("16-mixed", "cuda", scaler=scaler)
        self._optimizer = optimizer

    def step(self, loss: Tensor, scheduler: Any, last: bool) -> None:
        self._plugin.backward(loss, None)
        if last:
            self._plugin.optimizer_step(self._optimizer)
            self._optimizer.zero_grad()
            scheduler.step()
            self.updates += 1


class MMEngine(Step):
    """mmengine: its wrapper of the optimizer steps; its hooks move the averages and the schedule."""

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
