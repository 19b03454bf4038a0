"""What a property says of one case."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from harness.oracle.levels import Level


@dataclass(frozen=True)
class Verdict:
    """Whether the property holds for the case, and by how much.

    Attributes:
        holds: the claim is true of this case.
        quantity: what the claim bounds, as it was measured; what reports show as the worst value. ``None``
            where the claim is a plain yes or no.
        badness: 0 far inside the bound, 1 at it, more outside; what the search walks up and "worst" is ranked by.
        message: the sentence for people; empty where it holds.
        level: how grave it is where it doesn't hold.
        raised: the subject raised; nothing was measured.
    """

    holds: bool
    quantity: float | None
    badness: float
    message: str = ""
    level: Level = Level.FAULT
    raised: bool = False

    def at(self, level: Level) -> Verdict:
        """The same, of this level."""
        return replace(self, level=level)

    def graded(self, level: Callable[[], Level]) -> Verdict:
        """The same, where it doesn't hold of the level that this gives: to tell what is rounding takes a look at the
        pictures.
        """
        return self if self.holds else self.at(level())

    @property
    def gravity(self) -> tuple[bool, int, float]:
        """What verdicts are ranked by: whether violated, the level, the badness; the larger the worse."""
        return (not self.holds, 0 if self.holds else -self.level.rank, self.badness)


def at_most(quantity: float, bound: float, message: str) -> Verdict:
    """Holds where ``quantity <= bound``; NaN doesn't. A bound of zero allows nothing but zero."""
    if math.isnan(quantity):
        return Verdict(False, quantity, math.inf, message)
    holds = quantity <= bound
    badness = quantity / bound if bound > 0 else (0.0 if quantity <= 0 else math.inf)
    return Verdict(holds, quantity, max(0.0, badness), "" if holds else message)


def within(quantity: float, low: float, high: float, message: str) -> Verdict:
    """Holds where ``low <= quantity <= high``; NaN doesn't."""
    middle, half = (low + high) / 2.0, (high - low) / 2.0
    badness = math.inf if math.isnan(quantity) else abs(quantity - middle) / half
    holds = low <= quantity <= high
    return Verdict(holds, quantity, badness, "" if holds else message)


def at_least_zero(quantity: float, message: str) -> Verdict:
    """Holds where ``0 <= quantity < inf``; NaN doesn't. Worse the nearer to zero, and below it."""
    holds = 0.0 <= quantity < math.inf
    badness = 1.0 / (1.0 + quantity) if quantity >= 0 else 1.0 - quantity
    return Verdict(holds, quantity, badness if holds or quantity < 0 else math.inf, "" if holds else message)


class Rounding(NamedTuple):
    """What rounding may do, and of what level a violation is then.

    Attributes:
        noise: the violation is measured against it where it is larger than what it is else relative to: a share of next
            to nothing would say more of that than of the error.
    """

    noise: float = 0.0
    level: Level = Level.FAULT


def relative_to(
    bound: float, error: float, scale: float, message: str, rounding: Callable[[], Rounding] = Rounding
) -> Verdict:
    """Holds where ``error <= bound``, both absolute; the quantity is the error as a share of ``scale``.

    Args:
        rounding: asked only where it doesn't hold.
    """
    verdict = at_most(error / bound, 1.0, message)
    noise, level = Rounding() if verdict.holds else rounding()
    violated = not verdict.holds and level is not Level.DEFINITION
    against = max(scale, noise) if violated else scale
    share = error / against if against > 0 else error
    # Of a NaN it is infinite, as a NaN ranks nowhere.
    badness = share * 1e3 if violated and noise > 0 and not math.isnan(share) else verdict.badness
    return Verdict(verdict.holds, share, badness, verdict.message, level)


def holds_if(condition: bool, message: str, quantity: float | None = None) -> Verdict:
    """A yes-or-no claim."""
    return Verdict(condition, quantity, 0.0 if condition else math.inf, "" if condition else message)


VACUOUS = Verdict(True, None, 0.0)
"""The case is not one that the claim speaks of."""
