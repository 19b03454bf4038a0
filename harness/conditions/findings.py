"""What a sweep shows: which conditions make a loss leave its range, or be wrong, more often."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.conditions.sweep import OWN_MASK, Sweep, Tally


class Measure(str, enum.Enum):
    """What is counted; only what goes beyond rounding."""

    OUTSIDE = "out of range"
    WRONG = "wrong"

    def of(self, tally: Tally) -> int:
        """How many cases of the tally it happened in."""
        return tally.far_outside if self is Measure.OUTSIDE else tally.wrong


class Shows(str, enum.Enum):
    """What a comparison of two shares shows."""

    YES = "holds"
    NO = "doesn't show"  # the difference is within twice its standard error
    OPPOSITE = "the opposite holds"


@dataclass(frozen=True)
class Share:
    """So many of so many cases."""

    count: int
    cases: int

    @property
    def value(self) -> float:
        return self.count / self.cases if self.cases else math.nan

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % of {self.cases}"


@dataclass(frozen=True)
class Condition:
    """One of the conditions, with the share of cases where it is met and where it isn't.

    Attributes:
        claim: "a small foreground makes it more frequent".
        met, unmet: which cases are compared, in words.
        shares: of these cases, the measure's.
    """

    claim: str
    met: str
    unmet: str
    shares: tuple[Share, Share]

    @property
    def shows(self) -> Shows | None:
        """Told by the difference of the shares and its standard error, both taken for samples of one; ``None`` where
        there is nothing to compare.
        """
        met, unmet = self.shares
        if not met.cases or not unmet.cases:
            return None
        pooled = (met.count + unmet.count) / (met.cases + unmet.cases)
        error = math.sqrt(pooled * (1 - pooled) * (1 / met.cases + 1 / unmet.cases))
        difference = met.value - unmet.value
        if abs(difference) <= 2 * error:
            return Shows.NO
        return Shows.YES if difference > 0 else Shows.OPPOSITE


@dataclass(frozen=True)
class PrecisionSummary:
    """A precision's tallies added up; the fields are those of :class:`Tally`."""

    precision: str
    cases: int
    outside: int
    far_outside: int
    wrong: int
    not_finite: int
    raised: int
    farthest: float
    largest_error: float


def summaries(sweep: Sweep) -> list[PrecisionSummary]:
    """One for each precision, in the order they were run."""
    found = []
    for precision in sweep.precisions:
        mine = [tally for tally in sweep.tallies if tally.precision == precision]
        if mine:
            found.append(_summary(precision, mine))
    return found


def _summary(precision: str, tallies: Sequence[Tally]) -> PrecisionSummary:
    counts = ("cases", "outside", "far_outside", "wrong", "not_finite", "raised")
    largest = ("farthest", "largest_error")
    return PrecisionSummary(
        precision,
        **{name: sum(getattr(tally, name) for tally in tallies) for name in counts},
        **{name: max(getattr(tally, name) for tally in tallies) for name in largest},
    )


def measured(sweep: Sweep) -> Measure:
    """What the conditions are told by: the range, or where that is never left, the error."""
    return Measure.OUTSIDE if any(Measure.OUTSIDE.of(tally) for tally in sweep.tallies) else Measure.WRONG


def showing(sweep: Sweep) -> tuple[str, ...]:
    """The precisions under which :func:`measured` happens at all."""
    measure = measured(sweep)
    return tuple(name for name in sweep.precisions if any(measure.of(t) for t in sweep.tallies if t.precision == name))


def conditions(sweep: Sweep, precisions: Sequence[str]) -> list[Condition]:
    """The three conditions of a negative masked SSIM, told by :func:`measured` under these precisions."""
    measure = measured(sweep)
    tallies = [tally for tally in sweep.tallies if tally.precision in precisions]
    if not tallies:
        return []
    found = []
    shares = sorted(share for share in sweep.grid.shares if share != OWN_MASK)
    drawn = [tally for tally in tallies if tally.share != OWN_MASK]
    for claim, values, told, of, among in (
        ("a tiny foreground makes it more frequent", shares, "foreground", _share, drawn),
        ("a rendering close to its target makes it more frequent", sorted(sweep.grid.magnitudes), "perturbation",
         _magnitude, tallies),
    ):  # fmt: skip
        low, high = _halves(values)
        if not low:
            continue
        groups = [[t for t in among if of(t) in half] for half in (low, high)]
        found.append(
            Condition(
                claim,
                f"{told} up to {low[-1]:.2g}",
                f"from {high[0]:.2g}",
                (_counted(groups[0], measure), _counted(groups[1], measure)),
            )
        )
    background = _more_background(drawn, measure)
    return found + ([background] if background is not None else [])


def _share(tally: Tally) -> float:
    return tally.share


def _magnitude(tally: Tally) -> float:
    return tally.magnitude


def _halves(values: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    """The lower and the upper half; of an odd number, the middle one is in neither."""
    half = len(values) // 2
    return values[:half], values[len(values) - half :] if half else []


def _more_background(tallies: Iterable[Tally], measure: Measure) -> Condition | None:
    """Images with equally many foreground pixels, in the smallest and the largest image that has as many."""
    by_pixels: dict[int, list[Tally]] = {}
    for tally in tallies:
        by_pixels.setdefault(round(tally.share * tally.size**2), []).append(tally)
    large: list[Tally] = []
    small: list[Tally] = []
    for group in by_pixels.values():
        sizes = {tally.size for tally in group}
        if len(sizes) > 1:
            large += [tally for tally in group if tally.size == max(sizes)]
            small += [tally for tally in group if tally.size == min(sizes)]
    if not large:
        return None
    return Condition(
        "more background around an equal foreground makes it more frequent",
        f"images of up to {max(t.size for t in large)}²",
        f"the same number of foreground pixels in images down to {min(t.size for t in small)}²",
        (_counted(large, measure), _counted(small, measure)),
    )


def _counted(tallies: Sequence[Tally], measure: Measure) -> Share:
    return Share(sum(measure.of(tally) for tally in tallies), sum(tally.cases for tally in tallies))
