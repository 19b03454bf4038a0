"""A tiny model trained by the subject's step, action by action, beside the plain model of what is right."""

from __future__ import annotations

import copy
import io
from dataclasses import replace
from typing import Any

import torch

from harness.cases.descriptors import Action, StepCase
from harness.cases.worlds import Saving
from harness.errors import reraise_unless_subjects
from harness.oracle.step_model import Expected, StepModel
from harness.oracle.window import Fault, window_outcome
from harness.precision import Precision, refusing_unknown_ops
from harness.process_state import kept_state
from harness.subjects.step import StepFactory
from harness.trials.observation import Observation, Snapshot, first_snapshot, snapshot_or, take_snapshot
from harness.trials.step_parts import add_late, tiny_loss, tiny_parts


class FedStepTrial:
    """Runs one fault program on one step subject under one precision."""

    def __init__(self, factory: StepFactory, precision: Precision, case: StepCase) -> None:
        self._factory, self._precision, self._case = factory, precision, case
        policies = factory.policies.handed(case.world.clip_norm, factory.promises)
        self._model = StepModel(case, precision.needs_scaler, policies, precision.autocast_dtype)
        self._late_is_in = False
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
        if action is not Action.RESTORE and self._model.late_is_due and not self._late_is_in:
            self._add_late()
        before = after = self._last
        gradients = self._model.gradients(action)
        self._model.advance_schedule_to(before.schedule_steps)
        expected = self._model.after(action)
        try:
            with kept_state():
                if action is Action.RESTORE:
                    if self._may_restore:
                        self._restore()
                else:
                    loss = tiny_loss(self._parts, action, gradients, self._precision)
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
                stepped = {"stepped": True, "parameters": dict(model.values)}
                return self._advanced(replace(expected, **stepped))  # type: ignore[arg-type]
            if _advanced(before, after):
                model.updates += 1
            return self._advanced(expected)
        poisoned = not all(bool(torch.isfinite(p).all()) for p in after.parameters.values())
        if (poisoned or moved) and _advanced(before, after):
            model.updates += 1
            return self._advanced(expected)
        return expected

    def _advanced(self, expected: Expected) -> Expected:
        return replace(expected, updates=self._model.updates, learning_rate=self._model.learning_rate)

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
        seen = take_snapshot(
            parts.parameters, self._driver.counters(), parts.optimizer, parts.lr_scheduler, parts.scaler
        )
        return replace(seen, averagings=self._driver.averaged())

    def _enter(self, saved: dict[str, Any] | None) -> None:
        """Build everything anew, as a new process would, and load what was saved."""
        self._parts = tiny_parts(self._case, self._precision.device, self._precision.needs_scaler)
        self._driver = self._factory.build(self._parts)
        if self._late_is_in:
            add_late(self._parts, self._case.world)
        if saved is not None:
            with torch.no_grad():
                for name, parameter in self._parts.parameters.items():
                    parameter.copy_(saved["parameters"][name])
            self._driver.load_state_dict(saved["step"])

    def _add_late(self) -> None:
        self._late_is_in = True
        add_late(self._parts, self._case.world)

    def _restore(self) -> None:
        parameters = {name: p.detach().clone() for name, p in self._parts.parameters.items()}
        saved = {"parameters": parameters, "step": self._driver.state_dict()}
        if self._case.world.saving is Saving.COPY:
            self._enter(copy.deepcopy(saved))
            return
        file = io.BytesIO()
        torch.save(saved, file)
        for _ in range(self._case.accumulation):
            good = self._model.gradients(Action.GOOD)
            self._driver.micro_step(tiny_loss(self._parts, Action.GOOD, good, self._precision))
        file.seek(0)
        self._enter(torch.load(file, map_location=self._precision.device, weights_only=True))


def _advanced(before: Snapshot, after: Snapshot) -> bool:
    return (after.schedule_steps or 0) > (before.schedule_steps or 0)
