"""A plain model of an AMP step with a GradScaler, fed the actions of a fault program.

Every gradient element of a parameter in a micro-step is the same number of few bits (or inf, or NaN), so the model
knows exactly, without floating-point luck, what a right step does: whether half precision overflows, the norm, the
parameters after the world's optimizer, the schedule and the scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.cases.descriptors import Action, StepCase
from harness.oracle.optimizer_model import ScalarOptimizer
from harness.oracle.policies import PROMISED, Policies
from harness.oracle.step_world import LEARNING_RATE, ParameterSpec, gradients_of, norm_of, parameters_of
from harness.oracle.window import Fault, ScalerState, WindowOutcome, window_outcome

# The parameters are of order 1, and a few float32 operations from the start.
_PARAMETER_ERROR = 1e-5


def schedule(updates: int) -> float:
    """The learning rate's factor after this many optimizer steps."""
    return 1.0 / (1.0 + updates)


def rounded_to(number: float, dtype: torch.dtype) -> float:
    """To the nearest of the type's numbers, ties to even; inf beyond its largest."""
    if number == 0.0 or not math.isfinite(number):
        return number
    info = torch.finfo(dtype)
    bits = round(-math.log2(info.eps))
    lowest = round(math.log2(info.tiny)) - bits
    unit = max(math.frexp(number)[1] - 1 - bits, lowest)
    nearest = math.ldexp(round(math.ldexp(number, -unit)), unit)
    return nearest if abs(nearest) <= info.max else math.copysign(math.inf, number)


@dataclass(frozen=True)
class Expected:
    """What a right step has done after an action.

    Attributes:
        window_ended: the action was a window's last micro-step.
        stepped: the optimizer took its step.
        moved: the step changes a parameter by more than rounding; a step on zero gradients need not.
        why: in words, for messages.
        fault: of a window that was dropped.
        grad_norm: before clipping; ``None`` where no finite one exists.
        passes: micro-steps so far.
        updates: optimizer steps so far.
        learning_rate: of the next update.
        scaler: permitted states; more than one only where a non-finite loss may, but need not, count as an overflow.
        parameters: by name, whole or the one number that all elements are; none where they can't be predicted.
        parameter_error: the error that these may have.
        counted: what the step's own count of updates should be, where that isn't ``updates``.
    """

    window_ended: bool
    stepped: bool
    moved: bool
    why: str
    fault: Fault | None
    grad_norm: float | None
    passes: int
    updates: int
    learning_rate: float
    scaler: tuple[ScalerState, ...]
    parameters: Mapping[str, float | Tensor]
    parameter_error: float
    counted: int | None = None


@dataclass
class StepModel:
    """The model's state.

    Attributes:
        scaled: a GradScaler is on.
        policies: of the step in the case's world.
        dtype: in which gradients come out of the backward pass; float16 where ``scaled``, unless another is given.
    """

    case: StepCase
    scaled: bool
    policies: Policies = PROMISED
    dtype: torch.dtype | None = None
    passes: int = 0
    updates: int = 0
    windows: int = 0
    specs: tuple[ParameterSpec, ...] = field(init=False)
    values: dict[str, float] = field(init=False)
    _optimizers: dict[str, ScalarOptimizer] = field(init=False)
    _window: list[Action] = field(default_factory=list)
    _scaler: ScalerState = field(init=False)
    _gradients: dict[str, float] = field(default_factory=dict)
    _schedule: int | None = None
    # Names of the parameters that ever got a gradient: of the others it is None, and none is zero.
    _reached: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        scale = 2.0**self.case.scale_exponent if self.scaled else 1.0
        self._scaler = ScalerState(scale, 0)
        self.specs = parameters_of(self.case.world.parameters)
        self.values = {spec.name: spec.start for spec in self.specs}
        kind = self.case.world.optimizer
        self._optimizers = {spec.name: ScalarOptimizer(kind, spec.weight_decay) for spec in self.specs}

    def adopt(self, scaler: ScalerState) -> None:
        """Go on from the permitted state that the subject chose."""
        self._scaler = scaler

    def advance_schedule_to(self, steps: int | None) -> None:
        """The next update is made at the rate that the subject's schedule gives: where it stands wrongly, that is a
        finding by itself, and no wrong update.
        """
        self._schedule = steps

    @property
    def late_is_due(self) -> bool:
        """Whether a parameter that is added later belongs to the optimizer in the next micro-step."""
        return self.passes >= self.case.accumulation

    @property
    def learning_rate(self) -> float:
        """Of the next update, in the first group."""
        return self._rate(self.updates)

    def gradients(self, action: Action) -> dict[str, float]:
        """Of the coming micro-step, by name, before any division or rounding."""
        reached = [s for s in self.specs if s.used and not s.frozen and (self.late_is_due or not s.late)]
        return gradients_of(action, self.case.world.parameters, reached, self.policies)

    def step_on_zeros(self) -> None:
        """Take the window without gradients that was just dropped for one whose gradients are zero, as they are where
        they were not set to ``None``.
        """
        self._move(dict.fromkeys(self._reached, 0.0))

    def after(self, action: Action) -> Expected:
        """Feed one action and say what a right step has done."""
        if action is Action.RESTORE:
            return self._expected(False, WindowOutcome(False, "saved and restored", None, (self._scaler,)))
        for name, gradient in self.gradients(action).items():
            self._reached[name] = None
            self._gradients[name] = self._gradients.get(name, 0.0) + self._received(gradient)
        self._window.append(action)
        self.passes += 1
        if len(self._window) < self.case.accumulation:
            return self._expected(False, WindowOutcome(False, "the window is still open", None, (self._scaler,)))
        window, gradients = self._window, self._gradients
        self._window, self._gradients = [], {}
        return self._end(window, gradients)

    def _received(self, gradient: float) -> float:
        """A gradient divided by the window's length, scaled, sent back through half precision, and unscaled."""
        scaled = rounded_to(gradient / self.case.accumulation * self._scaler.scale, torch.float32)
        dtype = self.dtype or (torch.float16 if self.scaled else torch.float32)
        return rounded_to(scaled, dtype) / self._scaler.scale

    def _end(self, window: list[Action], gradients: dict[str, float]) -> Expected:
        finite = not any(action in (Action.NAN_LOSS, Action.INF_LOSS) for action in window)
        elements = {spec.name: spec.elements for spec in self.specs}
        norm = norm_of(gradients, elements)
        outcome = window_outcome(
            finite, norm, self._scaler, self.case.growth_interval if self.scaled else None, self.policies
        )
        self.windows += 1
        self._scaler = outcome.scaler[0]
        before = dict(self.values)
        if outcome.stepped:
            self._move(self.policies.clipped(gradients, elements))
        farthest = max(abs(self.values[name] - value) for name, value in before.items())
        return self._expected(True, outcome, moved=farthest > _PARAMETER_ERROR)

    def _move(self, gradients: Mapping[str, float]) -> None:
        """One step of every parameter that has a gradient; one that has none is left alone, its decay too."""
        base = self._rate(self.updates if self._schedule is None else self._schedule)
        for spec in self.specs:
            if spec.name in gradients:
                step, value = self._optimizers[spec.name].step, self.values[spec.name]
                self.values[spec.name] = step(value, gradients[spec.name], base * spec.rate)
        self.updates += 1

    def _rate(self, steps: int) -> float:
        return LEARNING_RATE * (schedule(steps) if self.case.world.scheduled else 1.0)

    def _expected(self, ended: bool, outcome: WindowOutcome, *, moved: bool = False) -> Expected:
        return Expected(
            window_ended=ended,
            stepped=outcome.stepped,
            moved=moved,
            why=outcome.why,
            fault=outcome.fault,
            grad_norm=outcome.grad_norm,
            passes=self.passes,
            updates=self.updates,
            learning_rate=self.learning_rate,
            scaler=outcome.scaler,
            parameters=dict(self.values),
            parameter_error=_PARAMETER_ERROR * max(1.0, *map(abs, self.values.values())),
            counted=self.windows if self.policies.counts_attempts else self.updates,
        )
