"""What is seen of a training step, action by action."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.errors import SubjectError, describe_exception, reraise_unless_subjects
from harness.oracle.step_model import Expected
from harness.oracle.window import ScalerState
from harness.protocols import StepReport


@dataclass(frozen=True)
class Snapshot:
    """What can be seen of a training run: parameters by name, counters, schedule, scaler, and whether any gradient
    is left.

    Attributes:
        schedule_steps: ``None`` where there is no schedule.
        averagings: how often an average of the parameters took them in; ``None`` where there is none.
    """

    parameters: Mapping[str, Tensor]
    passes: int
    updates: int
    learning_rate: float
    schedule_steps: int | None
    scaler: ScalerState
    gradients_cleared: bool
    averagings: int | None = None

    def changed(self, other: Snapshot) -> list[str]:
        """The names of the parameters that aren't the same bits in both; NaN and NaN are."""
        return [name for name, p in self.parameters.items() if not _same(p, other.parameters.get(name))]


def _same(first: Tensor, second: Tensor | None) -> bool:
    if second is None or first.shape != second.shape:
        return False
    return bool(((first == second) | (first.isnan() & second.isnan())).all())


@dataclass(frozen=True)
class Observation:
    """One action: what was there before and after, what the step said, and what was expected.

    Attributes:
        action: in words.
        restored: the action was a save and restore.
        raised: what the subject raised, which ends the program: nothing after it is observed.
        loss: the action's, or ``None`` where it has none.
    """

    action: str
    restored: bool
    before: Snapshot
    after: Snapshot
    expected: Expected
    report: StepReport | None
    raised: BaseException | None
    loss: float | None = None


@dataclass(frozen=True)
class RankState:
    """One of two processes that train together, after one pass.

    Attributes:
        loss: its own.
        parameters: a digest of all their bits.
        raised: what the pass raised, in a line, or ``None``.
    """

    loss: float | None
    stepped: bool | None
    passes: int
    updates: int
    learning_rate: float
    scale: float
    parameters: str
    raised: str | None


def take_snapshot(
    parameters: Mapping[str, Tensor],
    counters: tuple[int, int],
    optimizer: torch.optim.Optimizer,
    lr_scheduler: torch.optim.lr_scheduler.LRScheduler | None,
    scaler: torch.amp.GradScaler,
) -> Snapshot:
    """The run as it stands; ``counters`` are passes and updates."""
    gradients = [p.grad for p in parameters.values() if p.grad is not None]
    return Snapshot(
        {name: p.detach().clone() for name, p in parameters.items()},
        *counters,
        float(optimizer.param_groups[0]["lr"]),
        None if lr_scheduler is None else int(lr_scheduler.last_epoch),
        scaler_state(scaler),
        not any(bool(gradient.any()) for gradient in gradients),
    )


def first_snapshot(take: Callable[[], Snapshot], spec: str) -> Snapshot:
    """The run before anything was done to it.

    Raises:
        SubjectError: what is to be seen of the subject can't be read.
    """
    try:
        return take()
    except BaseException as error:
        reraise_unless_subjects(error)
        raise SubjectError(f"{spec} does not fit: reading its state raised {describe_exception(error)}.") from error


def snapshot_or(take: Callable[[], Snapshot], last: Snapshot) -> Snapshot:
    """The run after the subject has raised; ``last`` where its state can't be read any more."""
    try:
        return take()
    except BaseException as error:
        reraise_unless_subjects(error)
        return last


def scaler_state(scaler: torch.amp.GradScaler) -> ScalerState:
    """A disabled scaler's scale is 1."""
    if not scaler.is_enabled():
        return ScalerState(1.0, 0)
    return ScalerState(float(scaler.get_scale()), int(scaler._get_growth_tracker()))


def observe_program(act: Callable[[Any], Observation], actions: Sequence[Any]) -> list[Observation]:
    """Run the actions one by one; where one raises, up to there."""
    seen: list[Observation] = []
    for action in actions:
        seen.append(act(action))
        if seen[-1].raised is not None:
            break
    return seen
