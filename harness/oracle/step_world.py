"""What a world is made of: its parameters, and the gradients that an action gives each of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.cases.descriptors import Action
from harness.cases.worlds import ParameterKind
from harness.oracle.policies import CLIP_NORM, NORM_FACTOR, Policies

MATRIX_START, BIAS_START = 1.0, 0.5
LEARNING_RATE, WEIGHT_DECAY = 2.0**-6, 0.125

GRADIENT = {
    Action.GOOD: 2.0**-4,
    Action.LARGE: 2.0,
    Action.HUGE: 2.0**7,
    Action.TINY: 2.0**-30,
    Action.OVERFLOW: 2.0**40,
    Action.INF_LOSS: 2.0**-4,
}
# Of the limit. Means of up to four micro-steps stay clear of it: a test holds that.
NEAR = {Action.UNDER: 1.0 - 1.0 / 32, Action.OVER: 1.0 + 1.5 / 32}
# Of bfloat16's significand: a gradient of so many bits passes through either half precision unchanged.
_BITS = 8


@dataclass(frozen=True)
class ParameterSpec:
    """A parameter, all of whose elements are alike.

    Attributes:
        group: of the optimizer, in order.
        rate: its group's learning rate, as a factor of the first's.
        share: its gradient, as a factor of the action's.
        used: losses reach it.
        frozen: it takes no gradient.
        late: it takes none, and is in no group, before the first window has ended.
    """

    name: str
    shape: tuple[int, ...]
    start: float
    group: int
    weight_decay: float = 0.0
    rate: float = 1.0
    share: float = 1.0
    used: bool = True
    frozen: bool = False
    late: bool = False

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def parameters_of(kind: ParameterKind) -> tuple[ParameterSpec, ...]:
    """In the optimizer's order."""
    matrix = ParameterSpec("weight", (2, 3), MATRIX_START, 0, WEIGHT_DECAY)
    bias = ParameterSpec("bias", (2,), BIAS_START, 1, share=8.0 if kind is ParameterKind.UNEQUAL else 1.0)
    if kind is ParameterKind.UNUSED:
        return ParameterSpec("unused", (4,), 1.0, 0, WEIGHT_DECAY, used=False), matrix, bias
    if kind is ParameterKind.FROZEN:
        return ParameterSpec("frozen", (4,), 1.0, 0, WEIGHT_DECAY, used=False, frozen=True), matrix, bias
    if kind is ParameterKind.GROUPS:
        return matrix, bias, ParameterSpec("gain", (3,), 2.0, 2, 2 * WEIGHT_DECAY, rate=4.0)
    if kind is ParameterKind.LATE:
        return matrix, bias, ParameterSpec("late", (3,), 1.0, 2, WEIGHT_DECAY, late=True)
    return matrix, bias


def gradients_of(
    action: Action, kind: ParameterKind, reached: Sequence[ParameterSpec], policies: Policies
) -> dict[str, float]:
    """By name, the gradient of every element in the action's micro-step, before any division or rounding.

    Args:
        reached: parameters that losses reach now.
        policies: those of the step in this world; what lies near a limit is told from them.
    """
    if action in (Action.FROZEN, Action.RESTORE):
        return {}
    if action is Action.NAN_LOSS:
        return {spec.name: math.nan for spec in reached}
    if action in NEAR:
        element = _rounded(NEAR[action] * _limit(policies) / _norm_of_ones(reached))
    else:
        element = math.nan if action is Action.NAN_BACKWARD else GRADIENT[action]
    if kind is ParameterKind.ONE_BAD and action in (Action.NAN_BACKWARD, Action.OVERFLOW):
        return {spec.name: element if spec.name == "bias" else GRADIENT[Action.GOOD] for spec in reached}
    return {spec.name: element * spec.share for spec in reached}


def norm_of(gradients: Mapping[str, float], elements: Mapping[str, int]) -> float | None:
    """The L2 norm over all elements; inf or NaN where one isn't finite, ``None`` without gradients."""
    if not gradients:
        return None
    return math.sqrt(sum(elements[name] * gradient**2 for name, gradient in gradients.items()))


def _limit(policies: Policies) -> float:
    """Over which a window is dropped; where none is, over which it is clipped."""
    return policies.norm_limit or policies.clip_norm or CLIP_NORM * NORM_FACTOR


def _norm_of_ones(reached: Sequence[ParameterSpec]) -> float:
    return math.sqrt(sum(spec.elements * spec.share**2 for spec in reached))


def _rounded(number: float) -> float:
    mantissa, exponent = math.frexp(number)
    return math.ldexp(round(math.ldexp(mantissa, _BITS)), exponent - _BITS)
