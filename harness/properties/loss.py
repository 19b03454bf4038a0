"""What a loss owes its user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.cases.descriptors import Flaw, MaskKind, PerturbationKind
from harness.cases.strategies import ALL_PERTURBATIONS, DIFFERENT, DRAWN_MASKS
from harness.oracle.meanings import Meaning
from harness.properties import loss_invariance, loss_use, loss_value
from harness.properties.verdict import Verdict
from harness.protocols import LossKind
from harness.trials.loss_trial import LossTrial

_FOREGROUND = tuple(kind for kind in DRAWN_MASKS if kind is not MaskKind.EMPTY)


@dataclass(frozen=True)
class LossProperty:
    """A claim about a loss.

    Attributes:
        name: as ``--property`` takes it.
        claim: the sentence, bound included; of a loss that is meant to be what it is held to.
        check: the verdict on one trial.
        masked_only: why the claim says nothing of a bare loss, or empty; nor does it of one that ignores its mask.
        unless: what of a meaning stands against the claim, as a reason, or empty.
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
    unless: Callable[[Meaning], str] = lambda meaning: ""
    perturbations: tuple[PerturbationKind, ...] = ALL_PERTURBATIONS
    masks: tuple[MaskKind, ...] = DRAWN_MASKS
    flaws: tuple[Flaw | None, ...] = (None,)
    fewest_images: int = 1
    compares: bool = False
    searched: bool = False
    effort: int = 1

    def inapplicable(self, kind: LossKind, meaning: Meaning) -> str | None:
        """Why the property doesn't apply to a loss of this kind that is meant to be this, or ``None``."""
        if self.masked_only:
            return (self.masked_only if kind is LossKind.BARE else meaning.why_mask_says_nothing) or None
        return self.unless(meaning) or None

    def cases(self, meaning: Meaning) -> dict[str, Any]:
        """What :func:`harness.cases.strategies.loss_cases` is to draw from for a loss that is meant to be this."""
        smallest, largest = meaning.sides()
        return {
            "perturbations": self.perturbations,
            "masks": meaning.masks(self.masks),
            "flaws": meaning.flaws(self.flaws),
            "fewest_images": self.fewest_images,
            "smallest_side": smallest,
            "largest_side": largest,
            **({"magnitudes": meaning.magnitudes()} if self.compares else {}),
        }


_NO_MASK = "a bare loss takes no mask"

LOSS_PROPERTIES: tuple[LossProperty, ...] = (
    LossProperty(
        "range",
        "The loss lies in its range: never negative, for 1 − SSIM at most 2.",
        loss_value.range_,
        searched=True,
        effort=3,
    ),
    LossProperty(
        "finite",
        "The loss and its gradient are finite, and it has a graph: backward() can be called, whatever the mask.",
        loss_value.finite,
    ),
    LossProperty(
        "identity",
        "For equal images the loss and its gradient are zero, to 1e-6, or what they are known to be, to 1e-3.",
        loss_value.identity,
        perturbations=(PerturbationKind.NONE,),
        searched=True,
    ),
    LossProperty(
        "accuracy",
        "The loss is within 1e-3, relatively, of its float64 value.",
        loss_value.accuracy,
        perturbations=DIFFERENT,
        compares=True,
        searched=True,
    ),
    LossProperty(
        "gradient-accuracy",
        "The gradient is within 1e-3, relatively, of its float64 value (and of its dtype's rounding).",
        loss_value.gradient_accuracy,
        perturbations=DIFFERENT,
        masks=_FOREGROUND,
        compares=True,
        searched=True,
    ),
    LossProperty(
        "gradient-alive",
        "Where the inputs differ in what counts, the gradient keeps at least a tenth of its true length.",
        loss_value.gradient_alive,
        perturbations=DIFFERENT,
        masks=_FOREGROUND,
        compares=True,
        searched=True,
    ),
    LossProperty(
        "symmetry",
        "Swapping the images leaves the loss, to 1e-3.",
        loss_invariance.symmetry,
        unless=lambda meaning: meaning.asymmetry,
        compares=True,
    ),
    LossProperty(
        "hidden-pixels",
        "Value and gradient don't depend on the pixels that the mask leaves out, and no gradient reaches them.",
        loss_invariance.hidden_pixels,
        masked_only=_NO_MASK,
        compares=True,
    ),
    LossProperty(
        "full-mask",
        "Where the mask leaves out nothing, the loss is that of all pixels, to 1e-3.",
        loss_invariance.full_mask,
        masked_only=_NO_MASK,
        masks=(MaskKind.FULL,),
        perturbations=DIFFERENT,
        compares=True,
    ),
    LossProperty(
        "empty-mask",
        "Where the mask leaves out everything, the loss and its gradient are zero, to 1e-6.",
        loss_invariance.empty_mask,
        masked_only=_NO_MASK,
        masks=(MaskKind.EMPTY,),
    ),
    LossProperty(
        "soft-mask",
        "With masks of quarters from 0 to 1, 0.5 among them, the loss is within 1e-3 of its float64 value.",
        loss_value.soft_mask,
        masked_only=_NO_MASK,
        perturbations=DIFFERENT,
        masks=_FOREGROUND,
        compares=True,
    ),
    LossProperty(
        "batch",
        "A batch's loss is the mean of its images' losses in any order, to 1e-3.",
        loss_invariance.batch,
        unless=lambda meaning: meaning.pooling,
        compares=True,
        fewest_images=2,
    ),
    LossProperty(
        "strides",
        "Channels-last and non-contiguous images give the same loss and gradient, to 1e-3.",
        loss_invariance.strides,
        compares=True,
    ),
    LossProperty(
        "side-effects",
        "The call leaves its inputs, the random state, torch's modes and the working directory as they were.",
        loss_use.side_effects,
    ),
    LossProperty("repeatable", "The same call gives the same bits.", loss_use.repeatable),
    LossProperty(
        "bad-input",
        "Bad input is refused with a ValueError or TypeError that says why; a term of a training step may pass NaN on.",
        loss_use.bad_input,
        perturbations=(PerturbationKind.NOISE,),
        masks=(MaskKind.DISC,),
        flaws=tuple(Flaw),
    ),
)
