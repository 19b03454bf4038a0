"""A plain model of an AMP step with a GradScaler, fed the actions of a fault program.

Every gradient element of a micro-step is the same power of two (or inf, or NaN), so the model knows exactly, without
floating-point luck, what a right step does: whether half precision overflows, the norm, the parameters after
SGD with momentum and weight decay on matrices, the schedule and the scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from harness.cases.descriptors import Action, StepCase
from harness.oracle.policies import PROMISED, Policies
from harness.oracle.window import Fault, ScalerState, WindowOutcome, window_outcome

# The setting that every fault program runs in.
ELEMENTS = 8  # a 2×3 matrix and its bias
MATRIX_START, BIAS_START = 1.0, 0.5
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 2.0**-6, 0.5, 0.125

GRADIENT = {
    Action.GOOD: 2.0**-4,
    Action.LARGE: 2.0,
    Action.HUGE: 2.0**7,
    Action.TINY: 2.0**-30,
    Action.OVERFLOW: 2.0**40,
    Action.INF_LOSS: 2.0**-4,
}
_HALF_MAX, _HALF_UNDERFLOW = 2.0**16, 2.0**-25
_SINGLE_MAX = 2.0**128
# The parameters are of order 1, and a few float32 operations from the start.
_PARAMETER_ERROR = 1e-5


def schedule(updates: int) -> float:
    """The learning rate's factor after this many optimizer steps."""
    return 1.0 / (1.0 + updates)


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
    """The model's state; ``scaled`` says whether a GradScaler is on and gradients pass through float16."""

    case: StepCase
    scaled: bool
    policies: Policies = PROMISED
    passes: int = 0
    updates: int = 0
    windows: int = 0
    matrix: float = MATRIX_START
    bias: float = BIAS_START
    _momentum: tuple[float, float] | None = None
    _window: list[Action] = field(default_factory=list)
    _scaler: ScalerState = field(init=False)
    _gradient: float | None = None
    _schedule: int | None = None

    def __post_init__(self) -> None:
        scale = 2.0**self.case.scale_exponent if self.scaled else 1.0
        self._scaler = ScalerState(scale, 0)

    def adopt(self, scaler: ScalerState) -> None:
        """Go on from the permitted state that the subject chose."""
        self._scaler = scaler

    def advance_schedule_to(self, steps: int) -> None:
        """The next update is made at the rate that the subject's schedule gives: where it stands wrongly, that is a
        finding by itself, and no wrong update.
        """
        self._schedule = steps

    def step_on_zeros(self) -> None:
        """Take the window without gradients that was just dropped for one whose gradients are zero, as they are where
        they were not set to ``None``.
        """
        self._move(0.0)

    def after(self, action: Action) -> Expected:
        """Feed one action and say what a right step has done."""
        if action is Action.RESTORE:
            return self._expected(False, WindowOutcome(False, "saved and restored", None, (self._scaler,)))
        self._accumulate(action)
        self._window.append(action)
        self.passes += 1
        if len(self._window) < self.case.accumulation:
            return self._expected(False, WindowOutcome(False, "the window is still open", None, (self._scaler,)))
        window, gradient = self._window, self._gradient
        self._window, self._gradient = [], None
        return self._end(window, gradient)

    def _accumulate(self, action: Action) -> None:
        if action is Action.FROZEN:
            return
        if action in (Action.NAN_LOSS, Action.NAN_BACKWARD):
            received = math.nan
        else:
            received = self._through_half(GRADIENT[action] / self.case.accumulation)
        self._gradient = received if self._gradient is None else self._gradient + received

    def _through_half(self, gradient: float) -> float:
        """A power of two scaled, sent back through float16 (or float32), and unscaled."""
        scaled = gradient * self._scaler.scale
        if self.scaled and scaled <= _HALF_UNDERFLOW:
            return 0.0
        if scaled >= (_HALF_MAX if self.scaled else _SINGLE_MAX):
            return math.inf
        return gradient

    def _end(self, window: list[Action], gradient: float | None) -> Expected:
        finite = not any(action in (Action.NAN_LOSS, Action.INF_LOSS) for action in window)
        norm = None if gradient is None else abs(gradient) * math.sqrt(ELEMENTS)
        outcome = window_outcome(
            finite, norm, self._scaler, self.case.growth_interval if self.scaled else None, self.policies
        )
        self.windows += 1
        self._scaler = outcome.scaler[0]
        before = self.matrix, self.bias
        if outcome.stepped:
            assert gradient is not None
            assert norm is not None
            self._move(self.policies.clipped(gradient, norm) if norm > 0 else 0.0)
        farthest = max(abs(self.matrix - before[0]), abs(self.bias - before[1]))
        return self._expected(True, outcome, moved=farthest > _PARAMETER_ERROR)

    def _move(self, gradient: float) -> None:
        matrix, bias = gradient + WEIGHT_DECAY * self.matrix, gradient
        if self._momentum is not None:
            matrix, bias = MOMENTUM * self._momentum[0] + matrix, MOMENTUM * self._momentum[1] + bias
        self._momentum = (matrix, bias)
        rate = LEARNING_RATE * schedule(self.updates if self._schedule is None else self._schedule)
        self.matrix, self.bias = self.matrix - rate * matrix, self.bias - rate * bias
        self.updates += 1

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
            learning_rate=LEARNING_RATE * schedule(self.updates),
            scaler=outcome.scaler,
            parameters={"weight": self.matrix, "bias": self.bias},
            parameter_error=_PARAMETER_ERROR * max(1.0, abs(self.matrix), abs(self.bias)),
            counted=self.windows if self.policies.counts_attempts else self.updates,
        )
