"""What a step does, found out by a few windows of its own: its policies, and a table of answers for people."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.cases.descriptors import Action, StepCase
from harness.errors import SubjectError, describe_exception, reraise_unless_subjects
from harness.oracle.policies import CLIP_NORM, NAMES, Policies, with_promises
from harness.oracle.step_model import ELEMENTS, GRADIENT, LEARNING_RATE, MATRIX_START, WEIGHT_DECAY
from harness.process_state import kept_state
from harness.subjects.step import StepFactory, StepParts
from harness.trials.fed_step import tiny_parts

_GOOD, _LARGE = GRADIENT[Action.GOOD], GRADIENT[Action.LARGE]
# The largest of any program: a limit or a clip norm that lies over it is never met.
_LARGEST = GRADIENT[Action.OVERFLOW]
_DESCENDING = (_LARGEST, 2.0**20, GRADIENT[Action.HUGE], 2.0**4, _LARGE, _LARGE / 2, _LARGE / 4, _LARGE / 8, _GOOD)
_HALVINGS = 17
_SAME = 1e-3
_BIAS_ELEMENTS = 2

Losses = Callable[[StepParts], Tensor]


@dataclass(frozen=True)
class _Seen:
    """One window: how far each parameter's elements moved, and what became of the rest.

    Attributes:
        refused: why the step couldn't be built.
        averaged: how often its running averages were updated; ``None`` where there are none.
    """

    raised: str
    refused: str
    moved: bool
    matrix: float
    bias: float
    updates: int
    schedule: int
    scale: float
    finite: bool
    cleared: bool
    averaged: int | None


def found_out(factory: StepFactory) -> StepFactory:
    """The factory with the table of what its step does, and the policies found where it promised none.

    Raises:
        SubjectError: the step raises on a plain good window.
    """
    with kept_state():
        good = _window(factory, _even(_GOOD))
        if good.refused:
            raise SubjectError(f"{factory.name.spec} does not fit: {good.refused}")
        if good.raised:
            raise SubjectError(
                f"{factory.name.spec} does not fit: called as {factory.call} on a plain good window, without a scaler, "
                f"it raised {good.raised}."
            )
        clip_norm, clips_apart = _clip_norm(factory)
        policies = Policies(
            clip_norm=clip_norm,
            clip_value=None if clips_apart else _clip_value(factory),
            norm_limit=_norm_limit(factory),
            drops_nonfinite_loss=not _window(factory, lambda parts: _even(_GOOD)(parts) + math.inf).moved,
            counts_attempts=_overflow(factory).updates > 0,
        )
        if policies.clip_value is not None:
            policies = replace(policies, clip_norm=None)
        factory = replace(factory, clips_apart=clips_apart)
        table = _table(factory, policies)
    return replace(factory, table=table, policies=factory.promised or policies)


def held_to(factory: StepFactory, promises: Sequence[str]) -> StepFactory:
    """The factory held to what is promised as well: by its shape, by itself, and in ``promises`` (the last wins).

    Raises:
        UsageError: as :func:`harness.oracle.policies.with_promises`.
    """
    policies = with_promises(factory.policies, (*factory.promises_said, *promises))
    said = {promise.partition("=")[0] for promise in (*factory.promises_said, *promises)}
    told = []
    for name in NAMES:
        value = getattr(policies, name.replace("-", "_"))
        if name in said or (factory.promises and value is not None):
            told.append((f"promised {name}", _written(value)))
    told = told or [("promised", "nothing")]
    return replace(factory, policies=policies, table=(*factory.table, *told))


def _written(value: float | bool | None) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}"


def _even(gradient: float) -> Losses:
    """A loss whose gradient by every element is this."""
    return lambda parts: sum((gradient * p.sum() for p in parts.parameters.values()), torch.zeros(()))


def _of_infinite_gradients(parameters: Iterable[Tensor]) -> Tensor:
    """A finite loss, of which these gradients are infinite: the slope of a root at 0."""
    return sum(((p - p.detach()).sqrt().sum() for p in parameters), torch.zeros(()))


def _of_nan_gradients(parts: StepParts) -> Tensor:
    """A finite loss, of which every gradient is NaN: the slope of a root at 0, times 0."""
    distances = sum(((p - p.detach()).square().sum() for p in parts.parameters.values()), torch.zeros(()))
    return _even(_GOOD)(parts) + distances.sqrt()


def _window(factory: StepFactory, loss: Losses, scaled: bool = False, clip_norm: float = CLIP_NORM) -> _Seen:
    parts = replace(tiny_parts(StepCase(1, 10, 2000), "cpu", scaled), clip_norm=clip_norm)
    before = {name: p.detach().clone() for name, p in parts.parameters.items()}
    scale = parts.scaler.get_scale()
    raised, refused, updates, averaged = "", "", 0, None
    try:
        driver = factory.build(parts)
        driver.micro_step(loss(parts))
        updates, averaged = driver.counters()[1], driver.averaged()
    except SubjectError as error:
        refused = str(error)
    except BaseException as error:
        reraise_unless_subjects(error)
        raised = describe_exception(error)
    shifts = {name: (before[name] - p.detach()).flatten() for name, p in parts.parameters.items()}
    gradients = [p.grad for p in parts.parameters.values() if p.grad is not None]
    return _Seen(
        raised,
        refused,
        any(bool((shift != 0).any()) for shift in shifts.values()),
        float(shifts["weight"][0]),
        float(shifts["bias"][0]),
        updates,
        int(parts.lr_scheduler.last_epoch),
        parts.scaler.get_scale() / scale,
        all(bool(torch.isfinite(p).all()) for p in parts.parameters.values()),
        not any(bool(g.any()) for g in gradients),
        averaged,
    )


def _overflow(factory: StepFactory) -> _Seen:
    """A window whose loss is finite and whose gradients overflow, with a scaler that is on."""
    return _window(factory, lambda parts: _of_infinite_gradients(parts.parameters.values()), scaled=True)


def _clip_norm(factory: StepFactory) -> tuple[float | None, bool]:
    """Where a window's gradients are shortened, looked for at the largest that the step doesn't drop; and whether each
    optimizer's are, by a norm of their own.
    """
    for gradient in _DESCENDING:
        seen = _window(factory, _even(gradient))
        if seen.moved:
            bias, matrix = seen.bias / LEARNING_RATE, seen.matrix / LEARNING_RATE - WEIGHT_DECAY * MATRIX_START
            if bias > gradient * (1.0 - _SAME):
                return None, False
            # A part of fewer elements has the smaller norm.
            apart = factory.several and bias > matrix * (1.0 + _SAME)
            return round(bias * math.sqrt(_BIAS_ELEMENTS if apart else ELEMENTS), 4), apart
    return None, False


def _clip_value(factory: StepFactory) -> float | None:
    """Where a large gradient is cut and a small one beside it is not."""

    for gradient in _DESCENDING:

        def uneven(parts: StepParts, gradient: float = gradient) -> Tensor:
            return gradient * parts.parameters["weight"].sum() + 2.0**-8 * parts.parameters["bias"].sum()

        seen = _window(factory, uneven)
        if seen.moved:
            small = seen.bias / (LEARNING_RATE * 2.0**-8)
            large = seen.matrix / LEARNING_RATE - WEIGHT_DECAY * MATRIX_START
            cut = abs(small - 1.0) < _SAME and large < gradient * (1.0 - _SAME)
            return round(large, 4) if cut else None
    return None


def _norm_limit(factory: StepFactory) -> float | None:
    if _window(factory, _even(_LARGEST)).moved or not _window(factory, _even(_GOOD)).moved:
        return None
    low, high = _GOOD, _LARGEST
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _window(factory, _even(middle)).moved else (low, middle)
    return math.sqrt(low * high) * math.sqrt(ELEMENTS)


def _table(factory: StepFactory, policies: Policies) -> tuple[tuple[str, str], ...]:
    overflow = _overflow(factory)
    nan_loss = _window(factory, lambda parts: _even(_GOOD)(parts) * math.nan, scaled=True)
    nan = _window(factory, _of_nan_gradients)
    nothing = _window(factory, lambda parts: torch.ones((), requires_grad=True) * 1.0, scaled=True)
    clip, whose = "does not clip", "each optimizer's " if factory.clips_apart else ""
    if policies.clip_value is not None:
        clip = f"clips each element to {policies.clip_value:g}"
    elif policies.clip_norm is not None:
        clip = f"clips {whose}to a norm of {policies.clip_norm:g}"
    limit = policies.norm_limit
    rows = [("gradients", clip)]
    rows.append(("a large, finite norm", "steps" if limit is None else f"drops the window over {limit:.3g}"))
    if factory.handed_clip:
        rows.append(("a clip norm of 0", _without_clip_norm(factory)))
    rows += [
        ("an infinite loss with finite gradients", "drops the window" if policies.drops_nonfinite_loss else "steps"),
        ("a NaN loss with a scaler", _moved(nan_loss)),
        ("NaN gradients without a scaler", _moved(nan)),
        ("overflowing gradients with a scaler", _moved(overflow)),
        ("the scale after an overflow", _scale(overflow)),
        ("no gradients at all", _moved(nothing)),
    ]
    if factory.schedules:
        rows.append(("the schedule on a dropped window", "advances" if overflow.schedule else "holds"))
    if factory.counts:
        rows.append(("its count of updates on a dropped window", "advances" if overflow.updates else "holds"))
    if factory.averages:
        rows.append(("its running averages on a dropped window", "updated" if overflow.averaged else "left"))
    if factory.several:
        rows += _one_overflow(factory)
    rows.append(("gradients after a dropped window", "cleared" if overflow.cleared else "left"))
    return tuple(rows)


def _without_clip_norm(factory: StepFactory) -> str:
    """What a clip norm of 0 means to it: no clipping, or no gradients."""
    seen = _window(factory, _even(_LARGE), clip_norm=0.0)
    if seen.refused:
        return "is refused"
    if seen.raised or not seen.finite:
        return _moved(seen)
    shift = seen.bias / (LEARNING_RATE * _LARGE)
    if abs(shift - 1.0) < _SAME:
        return "means no clipping"
    if abs(shift) < _SAME:
        return "zeroes all gradients" if seen.moved else "drops every window"
    return "clips all the same"


def _one_overflow(factory: StepFactory) -> list[tuple[str, str]]:
    """What becomes of the second optimizer and of the schedule where the first's gradients overflow."""

    def first_alone(parts: StepParts) -> Tensor:
        return _of_infinite_gradients([parts.parameters["weight"]]) + _GOOD * parts.parameters["bias"].sum()

    seen = _window(factory, first_alone, scaled=True)
    if seen.raised or not seen.finite:
        return [("the other where one optimizer overflows", _moved(seen))]
    rows = [("the other where one optimizer overflows", "steps" if seen.bias else "waits")]
    if factory.schedules:
        rows.append(("the schedule then", "advances" if seen.schedule else "holds"))
    return rows


def _moved(seen: _Seen) -> str:
    if seen.raised:
        return f"raises {seen.raised.partition(':')[0]}"
    if not seen.finite:
        return "poisons the parameters"
    return "steps" if seen.moved else "drops the window"


def _scale(seen: _Seen) -> str:
    if seen.raised:
        return f"raises {seen.raised.partition(':')[0]}"
    return "backs off" if seen.scale < 1.0 else "stays"
