"""A tiny model trained by the subject's step, action by action, beside the plain model of what is right."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from harness.cases.descriptors import Action, StepCase
from harness.errors import SubjectError
from harness.oracle.step_model import (
    BACKOFF,
    BIAS_START,
    CLIP_NORM,
    GRADIENT,
    GROWTH,
    LEARNING_RATE,
    MATRIX_START,
    MOMENTUM,
    NORM_FACTOR,
    WEIGHT_DECAY,
    Expected,
    ScalerState,
    StepModel,
    schedule,
)
from harness.precision import Precision
from harness.protocols import StepReport
from harness.subjects.step import StepFactory, StepParts


@dataclass(frozen=True)
class Snapshot:
    """What can be seen of a training run: parameters by name, counters, schedule, scaler, and whether any gradient
    is left.
    """

    parameters: dict[str, Tensor]
    passes: int
    updates: int
    learning_rate: float
    schedule_steps: int
    scaler: ScalerState
    gradients_cleared: bool


@dataclass(frozen=True)
class Observation:
    """One action: what was there before and after, what the step said, and what was expected.

    ``raised`` ends the program: nothing after it is observed.  ``loss`` is ``None`` where the action has none.
    """

    action: Action
    before: Snapshot
    after: Snapshot
    expected: Expected
    report: StepReport | None
    raised: Exception | None
    loss: float | None = None


class StepWorld:
    """Runs one fault program on one step subject under one precision."""

    def __init__(self, factory: StepFactory, precision: Precision, case: StepCase) -> None:
        self._factory, self._precision, self._case = factory, precision, case
        self._model = StepModel(case, scaled=precision.needs_scaler)
        self._enter(None)

    def act(self, action: Action) -> Observation:
        """Run one action. A subject that doesn't fit raises :class:`SubjectError`; what it else raises is observed."""
        before = self.snapshot()
        report, raised, value = None, None, None
        expected = self._model.after(action)
        try:
            if action is Action.RESTORE:
                self._restore()
            else:
                loss = self._loss(action)
                value = float(loss.detach())
                report = self._driver.micro_step(loss)
        except SubjectError:
            raise
        except Exception as error:
            raised = error
        after = self.snapshot()
        if after.scaler in expected.scaler:
            self._model.adopt(after.scaler)
        return Observation(action, before, after, expected, report, raised, value)

    def snapshot(self) -> Snapshot:
        scaler = self._parts.scaler
        state = (
            ScalerState(float(scaler.get_scale()), int(scaler._get_growth_tracker()))
            if scaler.is_enabled()
            else ScalerState(1.0, 0)
        )
        passes, updates = self._driver.counters()
        gradients = [p.grad for p in self._parts.parameters.values() if p.grad is not None]
        return Snapshot(
            {name: p.detach().clone() for name, p in self._parts.parameters.items()},
            passes,
            updates,
            float(self._parts.optimizer.param_groups[0]["lr"]),
            int(self._parts.lr_scheduler.last_epoch),
            state,
            not any(bool(g.any()) for g in gradients),
        )

    def _enter(self, saved: dict[str, Any] | None) -> None:
        """Build everything anew, as a new process would, and load what was saved."""
        device = self._precision.device
        matrix = nn.Parameter(torch.full((2, 3), MATRIX_START, device=device))
        bias = nn.Parameter(torch.full((2,), BIAS_START, device=device))
        optimizer = torch.optim.SGD(
            [
                {"params": [matrix], "weight_decay": WEIGHT_DECAY},
                {"params": [bias], "weight_decay": 0.0},
            ],
            lr=LEARNING_RATE,
            momentum=MOMENTUM,
        )
        self._parts = StepParts(
            {"weight": matrix, "bias": bias},
            optimizer,
            torch.amp.GradScaler(
                device,
                init_scale=2.0**self._case.scale_exponent,
                growth_factor=GROWTH,
                backoff_factor=BACKOFF,
                growth_interval=self._case.growth_interval,
                enabled=self._precision.needs_scaler,
            ),
            torch.optim.lr_scheduler.LambdaLR(optimizer, schedule),
            self._case.accumulation,
            CLIP_NORM,
            NORM_FACTOR,
        )
        self._driver = self._factory.build(self._parts)
        if saved is not None:
            with torch.no_grad():
                for name, parameter in self._parts.parameters.items():
                    parameter.copy_(saved["parameters"][name])
            self._driver.load_state_dict(saved["step"])

    def _restore(self) -> None:
        parameters = {name: p.detach().clone() for name, p in self._parts.parameters.items()}
        self._enter({"parameters": parameters, "step": copy.deepcopy(self._driver.state_dict())})

    def _loss(self, action: Action) -> Float[Tensor, ""]:
        """A loss whose gradient by every parameter element is the action's, through autocast's casts."""
        device = self._precision.device
        ones = torch.ones(1, 3, device=device)
        if action is Action.FROZEN:
            return ones.clone().requires_grad_().sum()
        parameters = self._parts.parameters
        with self._precision.context():
            output = F.linear(ones, parameters["weight"], parameters["bias"])
        if action in (Action.NAN_LOSS, Action.NAN_BACKWARD):
            poisoned: Tensor = _NanBackward.apply(output.float().sum())
            return poisoned * math.nan if action is Action.NAN_LOSS else poisoned
        loss = (output.float() * GRADIENT[action]).sum()
        return loss + math.inf if action is Action.INF_LOSS else loss


class _NanBackward(torch.autograd.Function):
    """The identity, whose gradient is NaN."""

    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, upstream):
        return upstream * math.nan
