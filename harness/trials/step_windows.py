"""One window of a step, tried out by itself: what it is fed, and what is seen of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.cases.descriptors import Action, StepCase
from harness.cases.worlds import World
from harness.errors import SubjectError, describe_exception, reraise_unless_subjects
from harness.oracle.step_world import GRADIENT
from harness.subjects.step import StepFactory, StepParts
from harness.trials.step_parts import tiny_parts

GOOD, LARGE = GRADIENT[Action.GOOD], GRADIENT[Action.LARGE]
# The largest of any program: a limit or a clip norm that lies over it is never met.
LARGEST = GRADIENT[Action.OVERFLOW]
_SIMPLEST = World()

Losses = Callable[[StepParts], Tensor]


@dataclass(frozen=True)
class Seen:
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


def even(gradient: float) -> Losses:
    """A loss whose gradient by every element is this."""
    return lambda parts: sum((gradient * p.sum() for p in parts.parameters.values()), torch.zeros(()))


def of_infinite_gradients(parameters: Iterable[Tensor]) -> Tensor:
    """A finite loss, of which these gradients are infinite: the slope of a root at 0."""
    return sum(((p - p.detach()).sqrt().sum() for p in parameters), torch.zeros(()))


def of_nan_gradients(parts: StepParts) -> Tensor:
    """A finite loss, of which every gradient is NaN: the slope of a root at 0, times 0."""
    distances = sum(((p - p.detach()).square().sum() for p in parts.parameters.values()), torch.zeros(()))
    return even(GOOD)(parts) + distances.sqrt()


def window(factory: StepFactory, loss: Losses, scaled: bool = False, world: World = _SIMPLEST) -> Seen:
    """Run one window of one micro-step with a new model."""
    parts = tiny_parts(StepCase(1, 10, 2000, world=world), "cpu", scaled)
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
    return Seen(
        raised,
        refused,
        any(bool((shift != 0).any()) for shift in shifts.values()),
        float(shifts["weight"][0]),
        float(shifts["bias"][0]),
        updates,
        0 if parts.lr_scheduler is None else int(parts.lr_scheduler.last_epoch),
        parts.scaler.get_scale() / scale,
        all(bool(torch.isfinite(p).all()) for p in parts.parameters.values()),
        not any(bool(g.any()) for g in gradients),
        averaged,
    )


def overflow(factory: StepFactory) -> Seen:
    """A window whose loss is finite and whose gradients overflow, with a scaler that is on."""
    return window(factory, lambda parts: of_infinite_gradients(parts.parameters.values()), scaled=True)
