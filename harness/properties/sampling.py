"""Which cases are drawn for a loss, by what it is meant to be."""

from __future__ import annotations

from collections.abc import Sequence

from harness.cases.descriptors import Flaw, MaskKind, PerturbationKind
from harness.cases.strategies import LARGEST_SIDE, MAGNITUDES, SMALLEST_SIDE
from harness.oracle.definitions import Counting, LossDefinition

# A network in float64 is slow: VGG19 takes 0.2 s for 16×16 pixels, forward and backward.
_LARGEST_FOR_NETWORKS = 20
# Below it, distances to a kink are within a few hundred (perceptual) or thousand (alignment) of float32's roundings.
_LEAST_ACROSS_KINKS = 1e-3


def sides(definition: LossDefinition) -> tuple[int, int]:
    """The smallest and the largest side that is drawn, in pixels."""
    largest = _LARGEST_FOR_NETWORKS if definition.needs_convolutions else LARGEST_SIDE
    return max(SMALLEST_SIDE, definition.smallest_side), max(largest, definition.smallest_side)


def perturbations(definition: LossDefinition, kinds: Sequence[PerturbationKind]) -> tuple[PerturbationKind, ...]:
    """Those of the kinds of which the definition says what they give."""
    return tuple(kind for kind in kinds if definition.beyond or kind is not PerturbationKind.OVERSHOOT)


def masks(definition: LossDefinition, kinds: Sequence[MaskKind]) -> tuple[MaskKind, ...]:
    """These masks for a loss of the foreground; for one of the background, those that leave as much of it to count."""
    if definition.counting is not Counting.BACKGROUND:
        return tuple(kinds)
    swapped = {MaskKind.EMPTY: MaskKind.FULL, MaskKind.FULL: MaskKind.EMPTY}
    return tuple(swapped.get(kind, kind) for kind in kinds)


def flaws(definition: LossDefinition, kinds: Sequence[Flaw | None]) -> tuple[Flaw | None, ...]:
    """Those of the flaws that this loss must notice."""
    none = {Flaw.SMALL} if definition.smallest_side < SMALLEST_SIDE else set()
    none |= {Flaw.MASK_SHAPE} if definition.counting is Counting.ALL else set()
    return tuple(flaw for flaw in kinds if flaw not in none)


def magnitudes(definition: LossDefinition) -> tuple[float, ...]:
    """The perturbations' magnitudes for properties that compare two runs, or a run and the truth."""
    least = _LEAST_ACROSS_KINKS if definition.kinks else 0.0
    return tuple(magnitude for magnitude in MAGNITUDES if magnitude >= least)
