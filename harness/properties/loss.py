"""What a masked SSIM loss owes its user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.cases.descriptors import Flaw, MaskKind, PerturbationKind
from harness.cases.strategies import ALL_PERTURBATIONS, DIFFERENT, DRAWN_MASKS
from harness.properties import loss_invariance, loss_use, loss_value
from harness.properties.trial import LossTrial
from harness.properties.verdict import Verdict
from harness.protocols import LossKind

_FOREGROUND = tuple(kind for kind in DRAWN_MASKS if kind is not MaskKind.EMPTY)


@dataclass(frozen=True)
class LossProperty:
    """A claim about a loss.

    Attributes:
        name: as ``--property`` takes it.
        claim: the sentence, bound included.
        check: the verdict on one trial.
        masked_only: why the claim says nothing of a bare loss, or empty.
        perturbations, masks, flaws, fewest_images: the cases that it speaks of.
        searched: the verdict's badness is worth climbing.
        effort: how many times the examples asked for are run: more where a check is cheap and a break is rare.
    """

    name: str
    claim: str
    check: Callable[[LossTrial], Verdict]
    masked_only: str = ""
    perturbations: tuple[PerturbationKind, ...] = ALL_PERTURBATIONS
    masks: tuple[MaskKind, ...] = DRAWN_MASKS
    flaws: tuple[Flaw | None, ...] = (None,)
    fewest_images: int = 1
    searched: bool = False
    effort: int = 1

    def inapplicable(self, kind: LossKind) -> str | None:
        """Why the property doesn't apply to this kind of loss, or ``None``."""
        return self.masked_only if self.masked_only and kind is LossKind.BARE else None


_NO_MASK = "a bare loss takes no mask"

LOSS_PROPERTIES: tuple[LossProperty, ...] = (
    LossProperty("range", "The loss lies in [0, 2].", loss_value.range_, searched=True, effort=3),
    LossProperty("finite", "The loss and its gradient are finite.", loss_value.finite),
    LossProperty(
        "identity",
        "For equal images the loss and its gradient are zero, to 1e-6.",
        loss_value.identity,
        perturbations=(PerturbationKind.NONE,),
        searched=True,
    ),
    LossProperty(
        "accuracy",
        "The loss is within 1e-3, relatively, of its float64 value.",
        loss_value.accuracy,
        perturbations=DIFFERENT,
        searched=True,
    ),
    LossProperty(
        "gradient-accuracy",
        "The gradient is within 1e-3, relatively, of its float64 value (and of its dtype's rounding).",
        loss_value.gradient_accuracy,
        perturbations=DIFFERENT,
        masks=_FOREGROUND,
        searched=True,
    ),
    LossProperty(
        "gradient-alive",
        "Where the foregrounds differ, the gradient keeps at least a tenth of its true length.",
        loss_value.gradient_alive,
        perturbations=DIFFERENT,
        masks=_FOREGROUND,
        searched=True,
    ),
    LossProperty("symmetry", "Swapping the images leaves the loss, to 1e-3.", loss_invariance.symmetry),
    LossProperty(
        "hidden-pixels",
        "Value and gradient don't depend on what the mask hides, and no gradient reaches it.",
        loss_invariance.hidden_pixels,
        masked_only=_NO_MASK,
    ),
    LossProperty(
        "full-mask",
        "With a full mask the loss is that of the unmasked images, to 1e-3.",
        loss_invariance.full_mask,
        masked_only=_NO_MASK,
        masks=(MaskKind.FULL,),
        perturbations=DIFFERENT,
    ),
    LossProperty(
        "empty-mask",
        "With an empty mask the loss and its gradient are zero, to 1e-6.",
        loss_invariance.empty_mask,
        masked_only=_NO_MASK,
        masks=(MaskKind.EMPTY,),
    ),
    LossProperty(
        "batch",
        "A batch's loss is the mean of its images' losses in any order, to 1e-3.",
        loss_invariance.batch,
        fewest_images=2,
    ),
    LossProperty(
        "strides",
        "Channels-last and non-contiguous images give the same loss and gradient, to 1e-3.",
        loss_invariance.strides,
    ),
    LossProperty(
        "side-effects",
        "The call leaves its inputs, the random state and the autocast state as they were.",
        loss_use.side_effects,
    ),
    LossProperty("repeatable", "The same call gives the same bits.", loss_use.repeatable),
    LossProperty(
        "bad-input",
        "Bad input is refused with a ValueError or TypeError that says why.",
        loss_use.bad_input,
        perturbations=(PerturbationKind.NOISE,),
        masks=(MaskKind.DISC,),
        flaws=tuple(Flaw),
    ),
)
