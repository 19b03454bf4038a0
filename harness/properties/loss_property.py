"""A claim about a loss: a function that judges one trial, and what is known of the claim beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.cases.descriptors import Flaw, Hidden, MaskKind, MaskValues, PerturbationKind
from harness.cases.strategies import ALL_PERTURBATIONS, DRAWN_MASKS
from harness.oracle.definitions import LossDefinition
from harness.oracle.levels import Level
from harness.properties import sampling
from harness.properties.claim import claim_of, name_of
from harness.properties.verdict import Verdict
from harness.protocols import LossKind
from harness.trials.loss_trial import LossTrial

FOREGROUND = tuple(kind for kind in DRAWN_MASKS if kind is not MaskKind.EMPTY)
"""Masks that leave something to see."""
NO_MASK = "a bare loss takes no mask"
"""Why a claim about masks says nothing of a bare loss."""


@dataclass(frozen=True)
class LossProperty:
    """A claim about a loss.

    Attributes:
        name: as ``--property`` takes it.
        claim: the sentence, bound included. It is made of the loss's definition, not of whatever the loss computes.
        check: gives the verdict on one trial. Calling the property does the same.
        masked_only: why the claim doesn't apply to a bare loss; empty where it does. A claim that has such a reason
            doesn't apply to a loss that ignores its mask either.
        modules_only: why the claim doesn't apply to a loss that is no module; empty where it does.
        unless: why the claim doesn't apply to a loss of a given definition; empty where it does.
        perturbations, flaws: the kinds to draw cases from.
        masks: likewise, for a loss of the foreground. A loss of the background gets empty for full and full for empty.
        mask_values: what its masks are handed over as.
        hidden: what replaces the pixels that the mask leaves out, where the claim is of these; half of them the first.
        fewest_images: the smallest batch that is drawn.
        large: it is also tried on a few large pictures, up to 512 pixels a side.
        compares: it compares two runs, or a run and the truth, so its cases must differ by more than float32's
            rounding.
        searched: the verdict's badness leads towards the bound, and past it to what is worse.
        every_grey: after a fault every grey, and a few large crops of photographs, are tried in search of a worse one.
            Where rounding takes a denominator to 0 the error is the largest, and no case beside that leads there.
        gravest: level that a violation can have.
        effort: how many times the examples asked for are run: more where a check is cheap and a break is rare,
            fewer where a break is common.
    """

    name: str
    claim: str
    check: Callable[[LossTrial], Verdict]
    masked_only: str = ""
    modules_only: str = ""
    unless: Callable[[LossDefinition], str] = lambda definition: ""
    perturbations: tuple[PerturbationKind, ...] = ALL_PERTURBATIONS
    masks: tuple[MaskKind, ...] = DRAWN_MASKS
    flaws: tuple[Flaw | None, ...] = (None,)
    mask_values: tuple[MaskValues, ...] = (MaskValues.NUMBERS,)
    hidden: tuple[Hidden, ...] = (Hidden.NUMBERS,)
    fewest_images: int = 1
    large: bool = False
    compares: bool = False
    searched: bool = False
    every_grey: bool = False
    effort: float = 1.0
    gravest: Level = Level.FAULT

    def inapplicable(self, kind: LossKind, definition: LossDefinition) -> str | None:
        """Why the property doesn't apply to a loss of this kind that is meant to be this, or ``None``."""
        if self.masked_only:
            return (self.masked_only if kind is LossKind.BARE else definition.why_mask_says_nothing) or None
        return self.unless(definition) or None

    def cases(self, definition: LossDefinition) -> dict[str, Any]:
        """What :func:`harness.cases.strategies.loss_cases` is to draw from for a loss that is meant to be this."""
        smallest, largest = sampling.sides(definition)
        return {
            "perturbations": sampling.perturbations(definition, self.perturbations),
            "masks": sampling.masks(definition, self.masks),
            "flaws": sampling.flaws(definition, self.flaws),
            "mask_values": self.mask_values,
            "hidden": self.hidden,
            "fewest_images": self.fewest_images,
            "smallest_side": smallest,
            "largest_side": largest,
            **({"magnitudes": sampling.magnitudes(definition)} if self.compares else {}),
        }

    def __call__(self, trial: LossTrial) -> Verdict:
        return self.check(trial)


def loss_property(**more: Any) -> Callable[[Callable[[LossTrial], Verdict]], LossProperty]:
    """Make a function a property whose claim is its docstring; ``more`` are the other attributes.

    Raises:
        TypeError: the function has no docstring.
        UsageError: Python was told to leave all docstrings out.
    """

    def made(check: Callable[[LossTrial], Verdict]) -> LossProperty:
        return LossProperty(name_of(check), claim_of(check), check, **more)

    return made
