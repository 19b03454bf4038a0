"""Training steps through public libraries, each in the order in which the library's own loop makes the calls.

``begin`` puts the harness' optimizer, scaler and schedule before the library, and ``step`` is what a loop does with a
micro-step's loss.
"""

from __future__ import annotations

from types import SimpleNamespace
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
    """Lightning: its precision plugin steps, and its Trainer advances a schedule by the step after every such step.

    The Trainer's loop needs a model and data of its own; what it asks of the plugin is made here by hand.
    """

    updates = 0

    def begin(self, optimizer: Any, scaler: Any) -> None:
        from pytorch_lightning.plugins.precision import MixedPrecision

        self._plugin = MixedPrecision("16-mixed", "cuda", scaler=scaler)
        self._optimizer = optimizer

    def step(self, loss: Tensor, scheduler: Any, last: bool) -> None:
        module = SimpleNamespace(automatic_optimization=True)
        self._plugin.pre_backward(loss, module).backward()  # type: ignore[arg-type]
        if last:
            # Of a manual loop: the Trainer of an automatic one is asked for callbacks before the step.
            module.automatic_optimization = False
            with mock.patch.object(self._plugin, "_after_closure"):
                self._plugin.optimizer_step(self._optimizer, model=module, closure=lambda: loss)  # type: ignore[arg-type]
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
