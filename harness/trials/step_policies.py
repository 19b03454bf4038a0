"""What a step does, found out by a few windows of its own: its policies, and a table of answers for people."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.cases.descriptors import StepCase
from harness.cases.worlds import ParameterKind, World
from harness.errors import SubjectError, describe_exception, reraise_unless_subjects
from harness.oracle.policies import CLIP_NORM, Policies
from harness.oracle.step_world import LEARNING_RATE, WEIGHT_DECAY, parameters_of
from harness.process_state import kept_state
from harness.subjects.step import StepFactory, StepParts
from harness.trials.step_parts import tiny_parts

_GOOD, _LARGE, _HUGE = 2.0**-4, 2.0, 2.0**7
_HALVINGS = 14
_SAME = 1e-3
_ELEMENTS = sum(spec.elements for spec in parameters_of(ParameterKind.ALIKE))
_CLIP_NORMS = (CLIP_NORM, CLIP_NORM / 4, CLIP_NORM * 4)
_SIMPLEST = World()
_CLIPS_NOTHING = "clips nothing"

Losses = Callable[[StepParts], Tensor]


@dataclass(frozen=True)
class _Seen:
    """One window: how far each parameter's elements moved, and what became of the rest."""

    raised: str
    moved: bool
    matrix: float
    bias: float
    updates: int
    schedule: int
    scale: float
    finite: bool
    cleared: bool


def found_out(factory: StepFactory) -> StepFactory:
    """The factory with the table of what its step does, and the policies found where it promised none.

    Raises:
        SubjectError: the step raises on a plain good window.
    """
    with kept_state():
        good = _window(factory, _even(_GOOD))
        if good.raised:
            raise SubjectError(
                f"{factory.name.spec} does not fit: called as {factory.call} on a plain good window, without a scaler, "
                f"it raised {good.raised}."
            )
        policies = Policies(
            clip_norm=_clip_norm(factory),
            clip_value=_clip_value(factory),
            norm_limit=_norm_limit(factory),
            drops_nonfinite_loss=not _window(factory, lambda parts: _even(_GOOD)(parts) + math.inf).moved,
            counts_attempts=_overflow(factory).updates > 0,
        )
        if policies.clip_value is not None:
            policies = replace(policies, clip_norm=None)
        unclipped = {number: _unclipped(factory, number) for number in (0.0, None)} if factory.handed_clip else {}
        policies = replace(policies, zero_clips_nothing=unclipped.get(0.0, _CLIPS_NOTHING) == _CLIPS_NOTHING)
        table = _table(factory, policies)
    if factory.handed_clip:
        table += (("handed a clip norm of 0", unclipped[0.0]), ("handed no clip norm", unclipped[None]))
    # A step of our shape promises to take it; any other was never told what to make of it.
    takes_none = unclipped.get(None) == _CLIPS_NOTHING or (
        factory.keeps_state and not unclipped[None].startswith("raises")
    )
    held = factory.policies if factory.promises else policies
    if not factory.keeps_state:
        held = replace(held, zero_clips_nothing=policies.zero_clips_nothing)
    return replace(factory, table=table, policies=held, clips=(CLIP_NORM, None) if takes_none else (CLIP_NORM,))


def with_clips(factory: StepFactory) -> StepFactory:
    """The factory with all the clip norms that its step can be handed, so that what it is to do with them is known.

    Where it was said to promise a norm, none other is handed to it.
    """
    promised = {promise.partition("=")[0] for promise in factory.name.promises}
    used = factory.promises or CLIP_NORM in (factory.policies.clip_norm, factory.policies.clip_value)
    if not factory.handed_clip or not used or promised & {"clip-norm", "clip-value", "norm-limit"}:
        return replace(factory, clips=(CLIP_NORM,))
    zero = (0.0,) if factory.policies.zero_clips_nothing else ()
    return replace(factory, clips=(*_CLIP_NORMS, *zero, *factory.clips[1:]))


def _unclipped(factory: StepFactory, clip_norm: float | None) -> str:
    """What the step makes of a large gradient where it is handed no norm to clip it to."""
    seen = _window(factory, _even(_LARGE), world=World(clip_norm=clip_norm))
    if seen.raised or not seen.moved:
        return _moved(seen)
    kept = seen.bias / (LEARNING_RATE * _LARGE)
    if kept < _SAME:
        return "zeroes the gradients"
    return _CLIPS_NOTHING if kept > 1.0 - _SAME else "clips"


def _even(gradient: float) -> Losses:
    """A loss whose gradient by every element is this."""
    return lambda parts: sum((gradient * p.sum() for p in parts.parameters.values()), torch.zeros(()))


def _window(factory: StepFactory, loss: Losses, scaled: bool = False, world: World = _SIMPLEST) -> _Seen:
    parts = tiny_parts(StepCase(1, 10, 2000, world=world), "cpu", scaled)
    before = {name: p.detach().clone() for name, p in parts.parameters.items()}
    scale = parts.scaler.get_scale()
    raised, updates = "", 0
    try:
        driver = factory.build(parts)
        driver.micro_step(loss(parts))
        updates = driver.counters()[1]
    except BaseException as error:
        reraise_unless_subjects(error)
        raised = describe_exception(error)
    shifts = {name: (before[name] - p.detach()).flatten() for name, p in parts.parameters.items()}
    gradients = [p.grad for p in parts.parameters.values() if p.grad is not None]
    return _Seen(
        raised,
        any(bool((shift != 0).any()) for shift in shifts.values()),
        float(shifts["weight"][0]),
        float(shifts["bias"][0]),
        updates,
        0 if parts.lr_scheduler is None else int(parts.lr_scheduler.last_epoch),
        parts.scaler.get_scale() / scale,
        all(bool(torch.isfinite(p).all()) for p in parts.parameters.values()),
        not any(bool(g.any()) for g in gradients),
    )


def _overflow(factory: StepFactory) -> _Seen:
    """A window whose gradients overflow, with a scaler that is on."""
    return _window(factory, _even(math.inf), scaled=True)


def _clip_norm(factory: StepFactory) -> float | None:
    """Where a window's gradients are shortened; looked for at the largest that the step doesn't drop."""
    for gradient in (_LARGE, _LARGE / 2, _LARGE / 4, _LARGE / 8, _GOOD):
        seen = _window(factory, _even(gradient))
        if seen.moved:
            factor = seen.bias / (LEARNING_RATE * gradient)
            return None if factor > 1.0 - _SAME else round(factor * gradient * math.sqrt(_ELEMENTS), 4)
    return None


def _clip_value(factory: StepFactory) -> float | None:
    """Where a large gradient is cut and a small one beside it is not."""

    def uneven(parts: StepParts) -> Tensor:
        return _LARGE * parts.parameters["weight"].sum() + 2.0**-8 * parts.parameters["bias"].sum()

    seen = _window(factory, uneven)
    small = seen.bias / (LEARNING_RATE * 2.0**-8)
    large = seen.matrix / LEARNING_RATE - WEIGHT_DECAY
    return round(large, 4) if abs(small - 1.0) < _SAME and large < _LARGE * (1.0 - _SAME) else None


def _norm_limit(factory: StepFactory) -> float | None:
    if _window(factory, _even(_HUGE)).moved or not _window(factory, _even(_GOOD)).moved:
        return None
    low, high = _GOOD, _HUGE
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _window(factory, _even(middle)).moved else (low, middle)
    return math.sqrt(low * high) * math.sqrt(_ELEMENTS)


def _table(factory: StepFactory, policies: Policies) -> tuple[tuple[str, str], ...]:
    overflow = _overflow(factory)
    nan = _window(factory, lambda parts: _even(_GOOD)(parts) * math.nan)
    nothing = _window(factory, lambda parts: torch.ones((), requires_grad=True) * 1.0, scaled=True)
    clip = "does not clip"
    if policies.clip_value is not None:
        clip = f"clips each element to {policies.clip_value:g}"
    elif policies.clip_norm is not None:
        clip = f"clips to a norm of {policies.clip_norm:g}"
    limit = policies.norm_limit
    rows = [
        ("gradients", clip),
        ("a large, finite norm", "steps" if limit is None else f"drops the window over {limit:.3g}"),
        ("an infinite loss with finite gradients", "drops the window" if policies.drops_nonfinite_loss else "steps"),
        ("NaN gradients without a scaler", _moved(nan)),
        ("overflowing gradients with a scaler", _moved(overflow)),
        ("the scale after an overflow", _scale(overflow)),
        ("no gradients at all", _moved(nothing)),
    ]
    if factory.schedules:
        rows.append(("the schedule on a dropped window", "advances" if overflow.schedule else "holds"))
    if factory.counts:
        rows.append(("its count of updates on a dropped window", "advances" if overflow.updates else "holds"))
    rows.append(("gradients after a dropped window", "cleared" if overflow.cleared else "left"))
    return tuple(rows)


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
