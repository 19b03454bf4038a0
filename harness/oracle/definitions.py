"""What a loss is meant to be, by name: its float64 truth, and what follows from its definition.

``--truth NAME`` holds a loss to one of these, and so does ``truth`` in a golden suite.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.cases.loss_inputs import LossInputs
from harness.errors import SubjectError, unknown_name
from harness.oracle import loss_variants, masked_ssim, padded_ssim, perceptual, point_terms, squared_errors
from harness.oracle.levels import Noise, noise
from harness.oracle.perceptual import Convolutions
from harness.oracle.truth import Truth


class Counting(str, enum.Enum):
    """Which pixels a loss is meant to look at."""

    ALL = "all"  # whatever the mask
    FOREGROUND = "foreground"  # mask > 0.5
    COMPOSITED = "composited"  # all, after neutral grey (0.5) took the place of what the mask hides
    BACKGROUND = "background"  # mask < 0.5
    WEIGHTED = "weighted"  # each times its mask


_WHOLE = "every pixel counts, whatever the mask"


@dataclass(frozen=True)
class LossDefinition:
    """What a loss is meant to be.

    Attributes:
        name: as ``--truth`` takes it.
        formula: in a few words.
        oracle: the truth of inputs, and of the subject's convolutions where ``needs_convolutions``.
        upper: the largest value it can take on images in [0, 1]; inf for none.
        lower: the smallest; −inf where its range isn't known.
        scale: of its noise, where 1 − SSIM has 1.
        subtracts: it is of the SSIM family, whose textbook form subtracts numbers of nearly equal size.
        window: a side of its windows, pixels, where it is of that family.
        uniform: a window's pixels all weigh alike.
        counting: which pixels count.
        on_points: it takes points and rays, not images.
        one_minus: the similarity that it is one minus, as "SSIM"; empty for none.
        zero_at_identity: it and its gradient are zero for equal images; if not, the oracle says what they are.
        asymmetry: why swapping the images changes it; empty where it doesn't.
        pooling: why a batch's loss isn't the mean of its images' losses; empty where it is.
        smallest_side: pixels; smaller images must be refused.
        beyond: it says what renderings beyond [0, 1] give; where it doesn't, as of a term of a training, which clamps
            them first, none are drawn.
        kinks: its gradient jumps, so its truths come with uncertainties.
        refuses_nan: NaN in an image must be an error; if not, it may also come out as NaN, but never as a number.
        needs_convolutions: its oracle needs the weights of the subject's network.
    """

    name: str
    formula: str
    oracle: Callable[..., Truth]
    upper: float = math.inf
    lower: float = 0.0
    scale: float = 1.0
    subtracts: bool = False
    window: int = 11
    uniform: bool = False
    counting: Counting = Counting.ALL
    on_points: bool = False
    one_minus: str = ""
    zero_at_identity: bool = True
    asymmetry: str = ""
    pooling: str = ""
    smallest_side: int = 1
    beyond: bool = False
    kinks: bool = False
    refuses_nan: bool = False
    needs_convolutions: bool = False

    def truth(self, inputs: LossInputs, convolutions: Convolutions | None = None) -> Truth:
        """The loss and its gradient in float64.

        Raises:
            SubjectError: the subject's convolutions are needed and were not handed over.
        """
        return self.oracle(inputs, *self.needed(convolutions))

    def needed(self, convolutions: Convolutions | None) -> tuple[Convolutions, ...]:
        """What the oracle takes besides the inputs: the convolutions, or nothing.

        Raises:
            SubjectError: as :meth:`truth`.
        """
        if not self.needs_convolutions:
            return ()
        if convolutions is None:
            raise SubjectError(
                f"the truth {self.name!r} needs the network's weights: give the loss an attribute 'convolutions', the "
                f"(kernel, bias) of VGG19's first 14 convolutions."
            )
        return (convolutions,)

    def counted(self, mask: Any) -> Any:
        """Where pixels count, as booleans of the mask's shape (n, 1, h, w)."""
        if self.counting is Counting.ALL:
            return mask == mask
        if self.counting is Counting.BACKGROUND:
            return mask < 0.5
        return mask > (0.0 if self.counting is Counting.WEIGHTED else 0.5)

    @property
    def counts_pixels(self) -> bool:
        """Whether it is a mean over some pixels, so that images with fewer of them may weigh less in a batch."""
        return self.counting in (Counting.FOREGROUND, Counting.BACKGROUND, Counting.WEIGHTED)

    @property
    def sets_hidden_aside(self) -> bool:
        """Whether its name says that what stands where pixels don't count has no influence, whatever it is. Of a
        definition that was found out it isn't known whether it does that, or weighs them by 0.
        """
        hides = self.counting in (Counting.FOREGROUND, Counting.COMPOSITED, Counting.BACKGROUND)
        return hides and self.name in DEFINITIONS

    @property
    def range_unknown(self) -> str:
        """Why nothing is claimed of its range; empty where it is known."""
        return "its range isn't known" if self.lower == -math.inf else ""

    def noise(self, flatness: float = 0.0) -> Noise:
        """What rounding may do to it, of pictures of this flatness."""
        return noise(self.subtracts, self.scale, flatness, self.window**2, self.uniform)

    @property
    def why_mask_says_nothing(self) -> str:
        """Why claims about masks don't apply to it; empty where they do."""
        return _WHOLE if self.counting is Counting.ALL else ""


_MASKED_SSIM = LossDefinition(
    "masked-ssim",
    "1 − SSIM after neutral grey (0.5) where mask ≤ 0.5",
    masked_ssim.masked_ssim_truth,
    upper=2.0,
    counting=Counting.COMPOSITED,
    one_minus="SSIM",
    smallest_side=11,
    beyond=True,
    refuses_nan=True,
    subtracts=True,
)
_FOREGROUND = replace(_MASKED_SSIM, counting=Counting.FOREGROUND)
_ERROR = replace(_FOREGROUND, upper=1.0, one_minus="", smallest_side=1, subtracts=False)
POOLED = "the pixels that count are pooled over the batch's images"
"""Why the loss of a batch isn't the mean of its images' losses, where they are summed and counted together."""

_ALL = (
    _MASKED_SSIM,
    replace(
        _MASKED_SSIM,
        name="clamped",
        formula="1 − clamp(SSIM, 0, 1), composited like masked-ssim",
        oracle=loss_variants.clamped_truth,
        upper=1.0,
        pooling="the mean is clamped, not each image's SSIM",
    ),
    replace(
        _FOREGROUND,
        name="foreground",
        formula="1 − SSIM averaged over windows by their share of foreground",
        oracle=loss_variants.foreground_truth,
    ),
    replace(
        _MASKED_SSIM,
        name="ms-ssim",
        formula="1 − MS-SSIM over five scales, composited like masked-ssim",
        oracle=loss_variants.ms_ssim_truth,
        upper=1.0,
        one_minus="MS-SSIM",
        smallest_side=161,
    ),
    replace(
        _ERROR,
        name="l1",
        formula="mean absolute error over the foreground, image by image",
        oracle=loss_variants.l1_truth,
    ),
    replace(
        _ERROR,
        name="l2",
        formula="mean squared error over the foreground, image by image",
        oracle=loss_variants.l2_truth,
    ),
    replace(
        _MASKED_SSIM,
        name="masked-ssim-term",
        formula="masked-ssim as a term of a training step: NaN may come out as NaN",
        beyond=False,
        refuses_nan=False,
    ),
    LossDefinition(
        "ssim",
        "1 − SSIM of the whole images",
        squared_errors.ssim_truth,
        upper=2.0,
        one_minus="SSIM",
        smallest_side=11,
        subtracts=True,
    ),
    LossDefinition(
        "zero-padded-ssim",
        "1 − SSIM of the whole images, a window around every pixel, zeros beyond the edges",
        padded_ssim.zero_padded_ssim_truth,
        upper=2.0,
        one_minus="SSIM",
        subtracts=True,
    ),
    LossDefinition("mse", "mean squared error of the whole images", squared_errors.mse_truth, upper=1.0),
    LossDefinition(
        "masked-mse",
        "squared error summed over the foreground of all images, over 3·max(1, its pixels)",
        squared_errors.masked_mse_truth,
        upper=1.0,
        counting=Counting.FOREGROUND,
        pooling=POOLED,
    ),
    LossDefinition(
        "background",
        "squared distance to white summed where mask < 0.5, over 3·max(1, its pixels)",
        squared_errors.background_truth,
        upper=1.0,
        counting=Counting.BACKGROUND,
        zero_at_identity=False,
        asymmetry="only the rendering is looked at",
        pooling=POOLED,
    ),
    LossDefinition(
        "perceptual",
        "VGG19 feature distances, average pooling, of the whole images",
        perceptual.perceptual_truth,
        smallest_side=16,
        kinks=True,
        needs_convolutions=True,
    ),
)  # fmt: skip
_ON_POINTS = LossDefinition(
    "pixel-alignment",
    "mean distance of points from their rays",
    point_terms.pixel_alignment_truth,
    on_points=True,
    zero_at_identity=False,
    asymmetry="points and rays can't change places",
    kinks=True,
)

DEFINITIONS: Mapping[str, LossDefinition] = {
    definition.name: definition
    for definition in (
        *_ALL,
        _ON_POINTS,
        replace(
            _ON_POINTS,
            name="masked-pixel-alignment",
            formula="pixel-alignment with each distance times its mask; the mean is over all pixels",
            oracle=point_terms.masked_pixel_alignment_truth,
            counting=Counting.WEIGHTED,
        ),
        replace(
            _ON_POINTS,
            name="points-distance",
            formula="mean squared difference of distances from the camera to themselves normalised",
            oracle=point_terms.points_distance_truth,
            kinks=False,
        ),
    )
}
"""All of them by name."""


def definition_named(name: str) -> LossDefinition:
    """The definition of this name.

    Raises:
        UsageError: there is none.
    """
    if name not in DEFINITIONS:
        raise unknown_name("truth", name, DEFINITIONS)
    return DEFINITIONS[name]
