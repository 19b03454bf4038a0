"""What a step does, found out by a few windows of its own: its policies, and a table of answers for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from harness.cases.descriptors import Action
from harness.cases.worlds import ParameterKind, World
from harness.errors import SubjectError
from harness.oracle.policies import CLIP_NORM, NAMES, Policies, with_promises
from harness.oracle.step_world import GRADIENT, LEARNING_RATE, MATRIX_START, WEIGHT_DECAY, parameters_of
from harness.process_state import kept_state
from harness.subjects.step import StepFactory, StepParts
from harness.trials.step_windows import (
    GOOD,
    LARGE,
    LARGEST,
    Seen,
    even,
    of_infinite_gradients,
    of_nan_gradients,
    overflow,
    window,
)

_DESCENDING = (LARGEST, 2.0**20, GRADIENT[Action.HUGE], 2.0**4, LARGE, LARGE / 2, LARGE / 4, LARGE / 8, GOOD)
_HALVINGS = 17
_SAME = 1e-3
_SPECS = parameters_of(ParameterKind.ALIKE)
_ELEMENTS = sum(spec.elements for spec in _SPECS)
_BIAS_ELEMENTS = next(spec.elements for spec in _SPECS if spec.name == "bias")
_CLIP_NORMS = (CLIP_NORM, CLIP_NORM / 4, CLIP_NORM * 4)
_CLIPS_NOTHING, _REFUSED = "means no clipping", "is refused"


def found_out(factory: StepFactory) -> StepFactory:
    """The factory with the table of what its step does, and the policies found where it promised none.

    Raises:
        SubjectError: the step raises on a plain good window.
    """
    with kept_state():
        good = window(factory, even(GOOD))
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
            drops_nonfinite_loss=not window(factory, lambda parts: even(GOOD)(parts) + math.inf).moved,
            counts_attempts=overflow(factory).updates > 0,
        )
        if policies.clip_value is not None:
            policies = replace(policies, clip_norm=None)
        factory = replace(factory, clips_apart=clips_apart)
        unclipped = {number: _unclipped(factory, number) for number in (0.0, None)} if factory.handed_clip else {}
        policies = replace(policies, zero_clips_nothing=unclipped.get(0.0, _CLIPS_NOTHING) == _CLIPS_NOTHING)
        table = _table(factory, policies, unclipped)
    held = factory.promised or policies
    if not factory.promises_unclipped or unclipped[0.0] == _REFUSED:
        held = replace(held, zero_clips_nothing=policies.zero_clips_nothing)
    # A step of a shape that promises to take none may refuse it; any other was never told what to make of it.
    none = unclipped.get(None, _REFUSED)
    takes_none = none == _CLIPS_NOTHING or (factory.promises_unclipped and not none.startswith(("raises", _REFUSED)))
    return replace(factory, table=table, policies=held, clips=(CLIP_NORM, None) if takes_none else (CLIP_NORM,))


def held_to(factory: StepFactory) -> StepFactory:
    """The factory held to what is promised as well: by its shape, by itself, and by its user.

    Raises:
        UsageError: as :func:`harness.oracle.policies.with_promises`.
    """
    policies = with_promises(factory.policies, factory.said)
    told = []
    for name in NAMES:
        value = getattr(policies, name.replace("-", "_"))
        of_its_shape = factory.promises and value is not None
        if name == "zero-clips-nothing":
            of_its_shape = factory.promises_unclipped
        if name in _names_said(factory) or of_its_shape:
            told.append((f"promised {name}", _written(value)))
    told = told or [("promised", "nothing")]
    return replace(factory, policies=policies, table=(*factory.table, *told))


def with_clips(factory: StepFactory) -> StepFactory:
    """The factory with all the clip norms that its step can be handed, so that what it is to do with them is known.

    Where it was said to promise a norm, none other is handed to it; nor where it was seen to have a limit that it never
    promised: whether that is a factor of what it is handed isn't known.
    """
    policies = factory.policies
    used = factory.promises or (CLIP_NORM in (policies.clip_norm, policies.clip_value) and policies.norm_limit is None)
    if not factory.handed_clip or not used or _names_said(factory) & {"clip-norm", "clip-value", "norm-limit"}:
        return replace(factory, clips=(CLIP_NORM,))
    zero = (0.0,) if policies.zero_clips_nothing else ()
    return replace(factory, clips=(*_CLIP_NORMS, *zero, *factory.clips[1:]))


def _names_said(factory: StepFactory) -> set[str]:
    return {promise.partition("=")[0] for promise in factory.said}


def _written(value: float | bool | None) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}"


def _clip_norm(factory: StepFactory) -> tuple[float | None, bool]:
    """Where a window's gradients are shortened, looked for at the largest that the step doesn't drop; and whether each
    optimizer's are, by a norm of their own.
    """
    for gradient in _DESCENDING:
        seen = window(factory, even(gradient))
        if seen.moved:
            bias, matrix = seen.bias / LEARNING_RATE, seen.matrix / LEARNING_RATE - WEIGHT_DECAY * MATRIX_START
            if bias > gradient * (1.0 - _SAME):
                return None, False
            # A part of fewer elements has the smaller norm.
            apart = factory.several and bias > matrix * (1.0 + _SAME)
            return round(bias * math.sqrt(_BIAS_ELEMENTS if apart else _ELEMENTS), 4), apart
    return None, False


def _clip_value(factory: StepFactory) -> float | None:
    """Where a large gradient is cut and a small one beside it is not."""

    for gradient in _DESCENDING:

        def uneven(parts: StepParts, gradient: float = gradient) -> Tensor:
            return gradient * parts.parameters["weight"].sum() + 2.0**-8 * parts.parameters["bias"].sum()

        seen = window(factory, uneven)
        if seen.moved:
            small = seen.bias / (LEARNING_RATE * 2.0**-8)
            large = seen.matrix / LEARNING_RATE - WEIGHT_DECAY * MATRIX_START
            cut = abs(small - 1.0) < _SAME and large < gradient * (1.0 - _SAME)
            return round(large, 4) if cut else None
    return None


def _norm_limit(factory: StepFactory) -> float | None:
    if window(factory, even(LARGEST)).moved or not window(factory, even(GOOD)).moved:
        return None
    low, high = GOOD, LARGEST
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if window(factory, even(middle)).moved else (low, middle)
    return math.sqrt(low * high) * math.sqrt(_ELEMENTS)


def _table(
    factory: StepFactory, policies: Policies, unclipped: Mapping[float | None, str]
) -> tuple[tuple[str, str], ...]:
    overflowing = overflow(factory)
    nan_loss = window(factory, lambda parts: even(GOOD)(parts) * math.nan, scaled=True)
    nan = window(factory, of_nan_gradients)
    nothing = window(factory, lambda parts: torch.ones((), requires_grad=True) * 1.0, scaled=True)
    clip, whose = "does not clip", "each optimizer's " if factory.clips_apart else ""
    if policies.clip_value is not None:
        clip = f"clips each element to {policies.clip_value:g}"
    elif policies.clip_norm is not None:
        clip = f"clips {whose}to a norm of {policies.clip_norm:g}"
    limit = policies.norm_limit
    rows = [("gradients", clip)]
    rows.append(("a large, finite norm", "steps" if limit is None else f"drops the window over {limit:.3g}"))
    rows += [(f"a clip norm of {'None' if norm is None else f'{norm:g}'}", said) for norm, said in unclipped.items()]
    rows += [
        ("an infinite loss with finite gradients", "drops the window" if policies.drops_nonfinite_loss else "steps"),
        ("a NaN loss with a scaler", _moved(nan_loss)),
        ("NaN gradients without a scaler", _moved(nan)),
        ("overflowing gradients with a scaler", _moved(overflowing)),
        ("the scale after an overflow", _scale(overflowing)),
        ("no gradients at all", _moved(nothing)),
    ]
    if factory.schedules:
        rows.append(("the schedule on a dropped window", "advances" if overflowing.schedule else "holds"))
    if factory.counts:
        rows.append(("its count of updates on a dropped window", "advances" if overflowing.updates else "holds"))
    if factory.averages:
        rows.append(("its running averages on a dropped window", "updated" if overflowing.averaged else "left"))
    if factory.several:
        rows += _one_overflow(factory)
    rows.append(("gradients after a dropped window", "cleared" if overflowing.cleared else "left"))
    return tuple(rows)


def _unclipped(factory: StepFactory, clip_norm: float | None) -> str:
    """What a clip norm of 0, or none, means to it: no clipping, or no gradients."""
    seen = window(factory, even(LARGE), world=World(clip_norm=clip_norm))
    if seen.refused:
        return _REFUSED
    if seen.raised or not seen.finite:
        return _moved(seen)
    shift = seen.bias / (LEARNING_RATE * LARGE)
    if abs(shift - 1.0) < _SAME:
        return _CLIPS_NOTHING
    if abs(shift) < _SAME:
        return "zeroes all gradients" if seen.moved else "drops every window"
    return "clips all the same"


def _one_overflow(factory: StepFactory) -> list[tuple[str, str]]:
    """What becomes of the second optimizer and of the schedule where the first's gradients overflow."""

    def first_alone(parts: StepParts) -> Tensor:
        return of_infinite_gradients([parts.parameters["weight"]]) + GOOD * parts.parameters["bias"].sum()

    seen = window(factory, first_alone, scaled=True)
    if seen.raised or not seen.finite:
        return [("the other where one optimizer overflows", _moved(seen))]
    rows = [("the other where one optimizer overflows", "steps" if seen.bias else "waits")]
    if factory.schedules:
        rows.append(("the schedule then", "advances" if seen.schedule else "holds"))
    return rows


def _moved(seen: Seen) -> str:
    if seen.raised:
        return f"raises {seen.raised.partition(':')[0]}"
    if not seen.finite:
        return "poisons the parameters"
    return "steps" if seen.moved else "drops the window"


def _scale(seen: Seen) -> str:
    if seen.raised:
        return f"raises {seen.raised.partition(':')[0]}"
    return "backs off" if seen.scale < 1.0 else "stays"
