"""A claim about a loss: a function that judges one trial, and what is known of the claim beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.cases.descriptors import Flaw, MaskKind, PerturbationKind
from harness.cases.strategies import ALL_PERTURBATIONS, DRAWN_MASKS
from harness.oracle.definitions import LossDefinition
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
        claim: the sentence, bound included; of a loss that is meant to be what it is held to.
        check: the verdict on one trial; so does a call of the property itself.
        masked_only: why the claim says nothing of a bare loss, or empty; nor does it of one that ignores its mask.
        unless: what of a definition stands against the claim, as a reason, or empty.
        perturbations, flaws, fewest_images: the cases that it speaks of.
        masks: likewise, of a loss of the foreground; of one of the background, what is left to it as well.
        compares: it compares two runs, or run and truth, so that its cases must be above float32's rounding.
        searched: the verdict's badness is worth climbing.
        effort: how many times the examples asked for are run: more where a check is cheap and a break is rare.
    """

    name: str
    claim: str
    check: Callable[[LossTrial], Verdict]
    masked_only: str = ""
    unless: Callable[[LossDefinition], str] = lambda definition: ""
    perturbations: tuple[PerturbationKind, ...] = ALL_PERTURBATIONS
    masks: tuple[MaskKind, ...] = DRAWN_MASKS
    flaws: tuple[Flaw | None, ...] = (None,)
    fewest_images: int = 1
    compares: bool = False
    searched: bool = False
    effort: int = 1

    def inapplicable(self, kind: LossKind, definition: LossDefinition) -> str | None:
        """Why the property doesn't apply to a loss of this kind that is meant to be this, or ``None``."""
        if self.masked_only:
            return (self.masked_only if kind is LossKind.BARE else definition.why_mask_says_nothing) or None
        return self.unless(definition) or None

    def cases(self, definition: LossDefinition) -> dict[str, Any]:
        """What :func:`harness.cases.strategies.loss_cases` is to draw from for a loss that is meant to be this."""
        smallest, largest = sampling.sides(definition)
        return {
            "perturbations": self.perturbations,
            "masks": sampling.masks(definition, self.masks),
            "flaws": sampling.flaws(definition, self.flaws),
            "fewest_images": self.fewest_images,
            "smallest_side": smallest,
            "largest_side": largest,
            **({"magnitudes": sampling.magnitudes(definition)} if self.compares else {}),
        }

    def __call__(self, trial: LossTrial) -> Verdict:
        return self.check(trial)


def loss_property(**more: Any) -> Callable[[Callable[[LossTrial], Verdict]], LossProperty]:
    """Make a function a property, its docstring the claim; ``more`` are the other attributes."""

    def made(check: Callable[[LossTrial], Verdict]) -> LossProperty:
        return LossProperty(name_of(check), claim_of(check), check, **more)

    return made
