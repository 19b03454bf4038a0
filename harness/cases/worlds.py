"""The world that a fault program of a step runs in: what real trainings differ in beside their batches."""

from __future__ import annotations

import enum
from dataclasses import Field, dataclass, field, fields
from typing import Any

OPTIONAL = {"optional": True}
"""Marks a field that a file may lack, since it was added after files were written: it then has its default."""


class OptimizerKind(str, enum.Enum):
    """Which optimizer, and which of torch's three ways to run it."""

    SGD = "plain SGD"
    SGD_FOREACH = "foreach SGD"
    SGD_FUSED = "fused SGD"
    ADAMW = "plain AdamW"
    ADAMW_FOREACH = "foreach AdamW"
    ADAMW_FUSED = "fused AdamW"

    @property
    def adam(self) -> bool:
        return self.value.endswith("AdamW")

    @property
    def fused(self) -> bool:
        return self.value.startswith("fused")

    @property
    def foreach(self) -> bool:
        return self.value.startswith("foreach")


class ParameterKind(str, enum.Enum):
    """How the parameters differ."""

    ALIKE = "alike"  # a matrix and its bias, with the same gradient everywhere
    UNEQUAL = "of unequal gradients"  # the bias' is eight times the matrix'
    ONE_BAD = "one bad"  # what is NaN or overflows does so in the bias alone
    UNUSED = "one unused"  # a third one comes first, which no loss reaches
    FROZEN = "one frozen"  # a third one comes first, which takes no gradient
    GROUPS = "in three groups"  # a third one has a group, a rate and a decay of its own
    LATE = "one added later"  # a third one joins the optimizer, in a group of its own, after the first window


class Saving(str, enum.Enum):
    """How a save and restore is done."""

    COPY = "a copy"
    FILE = "a file"  # torch.save, one more window that is lost, torch.load of plain values only


@dataclass(frozen=True)
class World:
    """What surrounds a step; the default is the simplest.

    Attributes:
        clip_norm: as it is handed to the step; ``None`` and 0 are handed so.
        scheduled: there is a schedule; else the step is handed ``None`` for it.
    """

    clip_norm: float | None = field(default=1.0, metadata=OPTIONAL)
    optimizer: OptimizerKind = field(default=OptimizerKind.SGD, metadata=OPTIONAL)
    parameters: ParameterKind = field(default=ParameterKind.ALIKE, metadata=OPTIONAL)
    scheduled: bool = field(default=True, metadata=OPTIONAL)
    saving: Saving = field(default=Saving.COPY, metadata=OPTIONAL)


def differing(world: World) -> tuple[Field[Any], ...]:
    """The fields in which the world isn't the simplest."""
    return tuple(f for f in fields(world) if getattr(world, f.name) != f.default)


def describe_world(world: World) -> str:
    """What isn't as in the simplest world, in a few words; empty for the simplest."""
    words = {
        "clip_norm": f"clip norm {'none' if world.clip_norm is None else format(world.clip_norm, 'g')}",
        "optimizer": world.optimizer.value,
        "parameters": f"parameters {world.parameters.value}",
        "scheduled": "no schedule",
        "saving": f"saved through {world.saving.value}",
    }
    return ", ".join(words[f.name] for f in differing(world))
