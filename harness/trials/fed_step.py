"""A tiny model trained by the subject's step, action by action, beside the plain model of what is right."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from harness.cases.descriptors import Action, StepCase
from harness.errors import reraise_unless_subjects
from harness.oracle.policies import CLIP_NORM, NORM_FACTOR
from harness.oracle.step_model import (
    BIAS_START,
    GRADIENT,
    LEARNING_RATE,
    MATRIX_START,
    MOMENTUM,
    WEIGHT_DECAY,
    Expected,
    StepModel,
    schedule,
)
from harness.oracle.window import BACKOFF, GROWTH, Fault, window_outcome
from harness.precision import Precision, refusing_unknown_ops
from harness.process_state import kept_state
from harness.subjects.step import StepFactory, StepParts
from harness.trials.observation import Observation, Snapshot, first_snapshot, snapshot_or, take_snapshot


class FedStepTrial:
    """Runs one fault program on one step subject under one precision."""

    def __init__(self, factory: StepFactory, precision: Precision, case: StepCase) -> None:
        self._factory, self._precision, self._case = factory, precision, case
        self._model = StepModel(case, precision.needs_scaler, factory.policies)
        self._enter(None)
        self._last = first_snapshot(self.snapshot, factory.name.spec)

    @refusing_unknown_ops()
    def act(self, action: Action) -> Observation:
        """Run one action; whatever else the subject raises is part of the observation.

        Raises:
            SubjectError: the subject doesn't fit.
        """
        report, value = None, None
        raised: BaseException | None = None
        before = after = self._last
        self._model.advance_schedule_to(before.schedule_steps)
        expected = self._model.after(action)
        try:
            with kept_state():
                if action is Action.RESTORE:
                    if self._may_restore:
                        self._restore()
                else:
                    loss = self._loss(action)
                    value = float(loss.detach())
                    report = self._driver.micro_step(loss)
                after = self.snapshot()
                if action is Action.RESTORE and not self._factory.promises:
                    # It may clear gradients when the next window begins; nobody saves them.
                    after = replace(after, gradients_cleared=before.gradients_cleared)
        except BaseException as error:
            reraise_unless_subjects(error)
            raised = error
            after = snapshot_or(self.snapshot, before)
        self._last = after
        expected = self._counted(self._permitted(expected, before, after), before, after)
        if after.scaler in expected.scaler:
            self._model.adopt(after.scaler)
        return Observation(action.value, action is Action.RESTORE, before, after, expected, report, raised, value)

    def _permitted(self, expected: Expected, before: Snapshot, after: Snapshot) -> Expected:
        """A step that promised nothing may take a window without gradients for an update or not; and one that updates
        where it must not is right to advance its schedule with that.
        """
        if self._factory.promises or not expected.window_ended or expected.stepped:
            return expected
        moved, model = bool(before.changed(after)), self._model
        if expected.fault in (Fault.NO_GRADIENTS, Fault.NONFINITE_LOSS):
            # The scaler may have seen nothing, or, where the backward pass was spared, finite gradients alone.
            finite = window_outcome(True, 0.0, before.scaler, self._growth_interval)
            expected = replace(expected, scaler=(*expected.scaler, *finite.scaler))
        if expected.fault is Fault.NO_GRADIENTS:
            if moved:
                model.step_on_zeros()
                stepped = {"stepped": True, "parameters": {"weight": model.matrix, "bias": model.bias}}
                return self._advanced(replace(expected, **stepped))  # type: ignore[arg-type]
            if after.schedule_steps > before.schedule_steps:
                model.updates += 1
            return self._advanced(expected)
        poisoned = not all(bool(torch.isfinite(p).all()) for p in after.parameters.values())
        if (poisoned or moved) and after.schedule_steps > before.schedule_steps:
            model.updates += 1
            return self._advanced(expected)
        return expected

    def _advanced(self, expected: Expected) -> Expected:
        updates = self._model.updates
        return replace(expected, updates=updates, learning_rate=LEARNING_RATE * schedule(updates))

    def _counted(self, expected: Expected, before: Snapshot, after: Snapshot) -> Expected:
        """What a step that promised nothing should have counted: this window or not, on top of what it had. A window
        without gradients it may count or not, and one that it used where it must not, too.
        """
        if self._factory.promises:
            return expected
        due = expected.window_ended and (expected.stepped or self._factory.policies.counts_attempts)
        used = expected.window_ended and (expected.fault is Fault.NO_GRADIENTS or bool(before.changed(after)))
        if used and after.updates in (before.updates, before.updates + 1):
            return replace(expected, counted=after.updates)
        return replace(expected, counted=before.updates + due)

    @property
    def _may_restore(self) -> bool:
        """Inside a window only who promised to keep what is accumulated is saved and restored."""
        return self._factory.promises or self._model.passes % self._case.accumulation == 0

    @property
    def _growth_interval(self) -> int | None:
        return self._case.growth_interval if self._precision.needs_scaler else None

    def snapshot(self) -> Snapshot:
        parts = self._parts
        return take_snapshot(
            parts.parameters, self._driver.counters(), parts.optimizer, parts.lr_scheduler, parts.scaler
        )

    def _enter(self, saved: dict[str, Any] | None) -> None:
        """Build everything anew, as a new process would, and load what was saved."""
        self._parts = tiny_parts(self._case, self._precision.device, self._precision.needs_scaler)
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


def tiny_parts(case: StepCase, device: str, scaled: bool) -> StepParts:
    """A 2×3 matrix and its bias with an optimizer, a schedule and a scaler, which is on where ``scaled``."""
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
    return StepParts(
        {"weight": matrix, "bias": bias},
        optimizer,
        torch.amp.GradScaler(
            device,
            init_scale=2.0**case.scale_exponent,
            growth_factor=GROWTH,
            backoff_factor=BACKOFF,
            growth_interval=case.growth_interval,
            enabled=scaled,
        ),
        torch.optim.lr_scheduler.LambdaLR(optimizer, schedule),
        case.accumulation,
        CLIP_NORM,
        NORM_FACTOR,
    )


class _NanBackward(torch.autograd.Function):
    """The identity, whose gradient is NaN."""

    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, upstream):
        return upstream * math.nan
