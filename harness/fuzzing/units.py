"""A campaign as a numbered sequence of units of work, each with a seed of its own; and the shards that share it.

Unit and seed follow from the campaign's seed, the properties, the precision and the round alone. So what a unit finds
is the same whoever runs it, and however many there are to run the others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from harness.engine.plan import Task, derived_seed
from harness.errors import UsageError
from harness.files import shown

MOST_SHARDS = 10**6
MOST_UNITS = 10**9
"""Units of a campaign: more are not numbered."""
# What ``--seed`` takes, so that a unit can be run again by hand.
_SEEDS = 2**63

Group = tuple[Task, ...]


@dataclass(frozen=True)
class Unit:
    """One piece of work: a property under a precision; or several properties, where they share their runs.

    Attributes:
        index: from 0 on, in the campaign.
        round: from 0 on; each round has every group once.
        tasks: of one group.
        seed: of its search, as ``harness check --seed`` takes it.
    """

    index: int
    round: int
    tasks: Group
    seed: int


@dataclass(frozen=True)
class Units:
    """All units of a campaign.

    Attributes:
        seed: the campaign's.
        groups: the tasks that one unit runs, of a round, in the order of reports.
    """

    seed: int
    groups: tuple[Group, ...]

    def __getitem__(self, index: int) -> Unit:
        """The unit of this number.

        In each round the groups are in another order, so that no shard gets the same ones always.
        """
        round_, place = divmod(index, len(self.groups))
        tasks = self.groups[_order(self.seed, round_, self.groups)[place]]
        return Unit(index, round_, tasks, derived_seed(self.seed, "unit", *_names(tasks), str(round_)) % _SEEDS)


@lru_cache(maxsize=8)
def _order(seed: int, round_: int, groups: tuple[Group, ...]) -> Sequence[int]:
    # Not random.shuffle, which no Python version promises to any other.
    return sorted(range(len(groups)), key=lambda i: derived_seed(seed, "order", *_names(groups[i]), str(round_)))


def _names(tasks: Group) -> tuple[str, str, str]:
    first = tasks[0]
    return first.kind.value, "+".join(task.property for task in tasks), first.precision


@dataclass(frozen=True)
class Shard:
    """The units that one machine takes: those whose number leaves ``index`` when divided by ``count``."""

    index: int = 0
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def takes(self, number: int) -> bool:
        """Whether the unit of this number is one of them."""
        return number % self.count == self.index


def shard_from(text: str) -> Shard:
    """What ``--shard`` says: ``i/n``, from ``0/n`` to ``n-1/n``.

    Raises:
        UsageError: it is something else.
    """
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
    if match is None:
        raise UsageError(f"--shard is {shown(text)}, but must be i/n, such as 0/4, the first of four.")
    index, count = int(match[1]), int(match[2])
    if not 1 <= count <= MOST_SHARDS:
        raise UsageError(f"--shard is {text}, but there must be from 1 to {MOST_SHARDS} shards.")
    if index >= count:
        raise UsageError(
            f"--shard is {text}, but of {count} shards the first is 0/{count} and the last {count - 1}/{count}."
        )
    return Shard(index, count)
