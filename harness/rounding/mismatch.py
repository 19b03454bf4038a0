"""Mismatches: two ops that give one number in float64 and two numbers in the precision that was run.

``mu ** 2`` in float32 against ``mu * mu`` in bfloat16 is the one that takes an SSIM above 1: its parts were
written to cancel, and do not, because autocast casts one and not the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# The same number: apart in float64 by less than this part of the rounding of the coarser of the two.
_SAME = 1 / 64


@dataclass(frozen=True)
class Mismatch:
    """Ops that compute one number in float64 and several as run.

    Attributes:
        ops: their indices in the trace, in order.
        means: the mean of each one's output, as run.
        apart: the largest difference between two of them, as run.
        apart_float64: the same in float64.
    """

    ops: tuple[int, ...]
    means: tuple[float, ...]
    apart: float
    apart_float64: float


@dataclass(frozen=True)
class Result:
    """The output of one op of the trace and its float64 twin."""

    index: int
    actual: Tensor
    exact: Tensor


def find_mismatches(results: Sequence[Result], parents: Sequence[tuple[int, ...]]) -> tuple[Mismatch, ...]:
    """The mismatches that do not follow from an earlier one.

    Args:
        results: outputs of the ops that compute; casts and views left out.
        parents: for each op of the trace, the indices of the ops that made its inputs.
    """
    ancestors = _ancestors(parents)
    groups: list[_Group] = []
    for result in results:
        before = ancestors[result.index]
        if not result.exact.numel() or any(g.apart and not before.isdisjoint(g.indices) for g in groups):
            continue
        # An op that leaves its input's value as it was and rounds it is no mismatch with that input.
        group = next((g for g in groups if before.isdisjoint(g.indices) and g.holds(result)), None)
        if group is None:
            groups.append(_Group(result))
        else:
            group.add(result)
    return tuple(g.mismatch() for g in groups if g.apart)


class _Group:
    """Results that are one number in float64."""

    def __init__(self, first: Result) -> None:
        self.members = [first]
        self.indices = {first.index}
        self.apart = self.apart_float64 = 0.0
        self._mean = first.exact.mean().item()
        self._size = first.exact.abs().max().item()

    def holds(self, other: Result) -> bool:
        first = self.members[0]
        if first.actual.shape != other.actual.shape:
            return False
        same = self._same(other)
        # The mean is compared first because it is at hand.
        return abs(other.exact.mean().item() - self._mean) <= same and _apart(first.exact, other.exact) <= same

    def add(self, other: Result) -> None:
        for member in self.members:
            apart, apart_float64 = _apart(member.actual, other.actual), _apart(member.exact, other.exact)
            if apart > max(4 * apart_float64, self._same(other)):
                self.apart = max(self.apart, apart)
                self.apart_float64 = max(self.apart_float64, apart_float64)
        self.members.append(other)
        self.indices.add(other.index)

    def mismatch(self) -> Mismatch:
        means = tuple(m.actual.double().mean().item() for m in self.members)
        return Mismatch(tuple(m.index for m in self.members), means, self.apart, self.apart_float64)

    def _same(self, other: Result) -> float:
        coarser = max(torch.finfo(r.actual.dtype).eps for r in (self.members[0], other)) / 2
        return _SAME * coarser * self._size


def _apart(a: Tensor, b: Tensor) -> float:
    return (a.double() - b.double()).abs().max().item()


def _ancestors(parents: Sequence[tuple[int, ...]]) -> list[set[int]]:
    ancestors: list[set[int]] = []
    for of_one in parents:
        made_by = {p for p in of_one if p >= 0}
        ancestors.append(made_by.union(*(ancestors[p] for p in made_by)))
    return ancestors
