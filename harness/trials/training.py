"""A whole training run pass by pass through a fault program, and what is right told from the losses and gradients that
it really had: read after each backward pass, before the training's own step sees them.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch

from harness.cases.batch_faults import spoil
from harness.cases.descriptors import PassKind, TrainingCase
from harness.errors import reraise_unless_subjects
from harness.oracle.policies import CLIP_NORM, NORM_FACTOR
from harness.oracle.step_model import Expected
from harness.oracle.window import BACKOFF, GROWTH, WindowOutcome, window_outcome
from harness.precision import Precision, refusing_unknown_ops
from harness.process_state import kept_state
from harness.protocols import report_of
from harness.subjects.training import TrainingFactory, TrainingSettings
from harness.trials.observation import Observation, Snapshot, first_snapshot, snapshot_or, take_snapshot
from harness.trials.pristine_training import Prediction, PristineTraining, unmoved


class TrainingTrial:
    """Runs one fault program on one training under one precision."""

    def __init__(self, factory: TrainingFactory, precision: Precision, case: TrainingCase) -> None:
        self._factory, self._precision, self._case = factory, precision, case
        self._growth_interval = case.growth_interval if precision.needs_scaler else None
        self._window_losses: list[float] = []
        self._passes = self._updates = 0
        # Built and never run: what is said of the run doesn't come from the run itself.
        self._pristine = PristineTraining(self._built())
        self._enter(None)
        self._last = first_snapshot(self.snapshot, factory.name.spec)

    @refusing_unknown_ops()
    def act(self, kind: PassKind) -> Observation:
        """Run one pass, or save and restore; whatever else the subject raises is part of the observation.

        Raises:
            SubjectError: the subject doesn't fit.
        """
        report, loss = None, None
        raised: BaseException | None = None
        before = after = self._last
        expected = self._open(before, "saved and restored")
        try:
            with kept_state():
                if kind is PassKind.RESTORE:
                    self._enter(copy.deepcopy(self._training.state_dict()))
                else:
                    loss = self._pass(kind)
                    self._passes += 1
                    expected = self._expected(before, loss)
                    report = report_of(self._training.optimizer_step())
                after = self.snapshot()
        except BaseException as error:
            reraise_unless_subjects(error)
            raised = error
            after = snapshot_or(self.snapshot, before)
        self._last = after
        return Observation(kind.value, kind is PassKind.RESTORE, before, after, expected, report, raised, loss)

    def snapshot(self) -> Snapshot:
        training = self._training
        return take_snapshot(
            dict(training.model.named_parameters()),
            (int(training.fwdbwd_pass_step), int(training.param_update_step)),
            training.optimizer,
            training.lr_scheduler,
            self._scaler,
        )

    def _enter(self, saved: dict[str, Any] | None) -> None:
        """Build everything anew, as a new process would, and load what was saved."""
        self._training = self._built()
        if saved is not None:
            self._training.load_state_dict(saved)

    def _built(self) -> Any:
        device = self._precision.device
        self._scaler = torch.amp.GradScaler(
            device,
            init_scale=2.0**self._case.scale_exponent,
            growth_factor=GROWTH,
            backoff_factor=BACKOFF,
            growth_interval=self._case.growth_interval,
            enabled=self._precision.needs_scaler,
        )
        return self._factory.build(
            TrainingSettings(
                self._scaler, device, self._precision.autocast_dtype, self._case.accumulation, CLIP_NORM, NORM_FACTOR
            )
        )

    def _pass(self, kind: PassKind) -> float:
        training = self._training
        images = spoil(training.batch_images(int(training.fwdbwd_pass_step)), kind)
        trained = [p for p in training.model.parameters() if p.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(kind is not PassKind.FROZEN)
        try:
            return float(training.train_on(images).detach())
        finally:
            for parameter in trained:
                parameter.requires_grad_()

    def _expected(self, before: Snapshot, loss: float) -> Expected:
        self._window_losses.append(loss)
        if len(self._window_losses) < self._case.accumulation:
            return self._open(before, "the window is still open")
        finite = all(math.isfinite(value) for value in self._window_losses)
        self._window_losses = []
        scale = before.scaler.scale
        gradients = {
            name: p.grad.detach().double() / scale
            for name, p in self._training.model.named_parameters()
            if p.grad is not None
        }
        norm = None
        if gradients:
            norm = float(torch.stack([torch.linalg.vector_norm(g) for g in gradients.values()]).norm())
        outcome = window_outcome(finite, norm, before.scaler, self._growth_interval)
        if not outcome.stepped:
            return self._say(True, outcome, unmoved(before.parameters))
        assert norm is not None
        self._updates += 1
        clip = min(1.0, CLIP_NORM / norm) if norm > 0 else 1.0
        clipped = {name: clip * gradient for name, gradient in gradients.items()}
        return self._say(True, outcome, self._pristine.step(before.parameters, clipped))

    def _open(self, before: Snapshot, why: str) -> Expected:
        return self._say(False, WindowOutcome(False, why, None, (before.scaler,)), unmoved(before.parameters))

    def _say(self, ended: bool, outcome: WindowOutcome, prediction: Prediction) -> Expected:
        return Expected(
            window_ended=ended,
            stepped=outcome.stepped,
            moved=prediction.moved,
            why=outcome.why,
            fault=outcome.fault,
            grad_norm=outcome.grad_norm,
            passes=self._passes,
            updates=self._updates,
            learning_rate=self._pristine.learning_rate,
            scaler=outcome.scaler,
            parameters=prediction.parameters,
            parameter_error=prediction.error,
        )
