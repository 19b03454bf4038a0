"""Masked losses that have been tried against a negative masked SSIM loss, kept to be compared.

:func:`masked_loss` makes each by the name that the configuration (``training.losses.ssim_variant``) has for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from gslrm.model.gaussian_window import window_mean
from gslrm.model.masked_loss import MaskedLoss, NeutralBackgroundLoss
from gslrm.model.ssim_difference import SsimConstants, ssim_loss_difference_form
from gslrm.model.ssim_textbook import MS_SSIM_SMALLEST_SIDE, clamped_ssim_loss, ms_ssim_loss
from gslrm.model.utils_losses import MaskedSsimLoss


class ClampedSsimLoss(NeutralBackgroundLoss):
    """1 − clamp(SSIM, 0, 1) of pytorch-msssim with a neutral background, as it was once applied; in [0, 1].

    Unlike the others it runs under whatever autocast surrounds it, in the images' dtype, and looks at no values: in
    half precision it is in range but wrong, and it has no gradient wherever it clamps.

    Args:
        neutral_value: what both backgrounds are set to, in the images' units.
        data_range: L, the images' range.
    """

    def __init__(self, neutral_value: float = 0.5, *, data_range: float = 1.0) -> None:
        super().__init__(neutral_value, data_range=data_range, check_values=False)

    def forward(
        self,
        rendering: Float[Tensor, "n c h w"],
        target: Float[Tensor, "n c h w"],
        mask: Shaped[Tensor, "n 1 h w"],
    ) -> Float[Tensor, ""]:
        """The loss in [0, 1].

        Raises:
            TypeError: an image is no floating-point tensor, or the mask no real one.
            ValueError: shapes that don't fit, a side under 11 pixels, NaN in the mask.
        """
        return self._loss(rendering, target, self._foreground(rendering, target, mask))

    def _loss(
        self,
        rendering: Float[Tensor, "n c h w"],
        target: Float[Tensor, "n c h w"],
        foreground: Bool[Tensor, "n 1 h w"],
    ) -> Float[Tensor, ""]:
        images = (self._composite(image, foreground) for image in (rendering, target))
        return clamped_ssim_loss(*images, data_range=self.data_range)


class ForegroundSsimLoss(NeutralBackgroundLoss):
    """1 − SSIM averaged over windows by their share of foreground; in [0, 2].

    A window's weight is its Gaussian mean of the mask, normalised per image. The background then counts only where it
    shares a window with the foreground. Any mask that is not empty, one pixel included, has a positive weight; an empty
    one gives 0.

    Its arguments are those of :class:`gslrm.model.masked_loss.NeutralBackgroundLoss`.
    """

    def _loss(
        self,
        rendering: Float[Tensor, "n c h w"],
        target: Float[Tensor, "n c h w"],
        foreground: Bool[Tensor, "n 1 h w"],
    ) -> Float[Tensor, ""]:
        difference = (rendering - target).where(foreground, 0.0)
        constants = SsimConstants.of(self.data_range, offset=2.0 * self.neutral_value)
        total = (rendering + target - constants.offset).where(foreground, 0.0)
        # Each window's share of foreground, normalised to sum to 1/n over an image's windows, 0 where it is empty.
        share = window_mean(foreground.squeeze(1).to(difference.dtype)).clamp(min=0.0).unsqueeze(1)
        sums = share.sum(dim=(1, 2, 3), keepdim=True)
        weight = share / torch.where(sums > 0, sums, torch.ones_like(sums)) / foreground.shape[0]
        return ssim_loss_difference_form(difference, total, constants, weight)


class MaskedMsSsimLoss(NeutralBackgroundLoss):
    """1 − MS-SSIM (five scales) through pytorch-msssim with a neutral background, in float64; in [0, 1].

    Sides must exceed 160 pixels.

    Its arguments are those of :class:`gslrm.model.utils_losses.MaskedSsimLoss`.
    """

    smallest_side = MS_SSIM_SMALLEST_SIDE

    def _loss(
        self,
        rendering: Float[Tensor, "n c h w"],
        target: Float[Tensor, "n c h w"],
        foreground: Bool[Tensor, "n 1 h w"],
    ) -> Float[Tensor, ""]:
        images = (self._composite(image, foreground) for image in (rendering, target))
        return ms_ssim_loss(*images, data_range=self.data_range)


class MaskedL1Loss(MaskedLoss):
    """Mean absolute error over the foreground's pixels and channels, per image; 0 for an empty mask.

    Its arguments are those of :class:`gslrm.model.masked_loss.MaskedLoss`.
    """

    smallest_side = 1

    def _loss(
        self,
        rendering: Float[Tensor, "n c h w"],
        target: Float[Tensor, "n c h w"],
        foreground: Bool[Tensor, "n 1 h w"],
    ) -> Float[Tensor, ""]:
        return _foreground_mean((rendering - target).where(foreground, 0.0).abs(), foreground)


class MaskedL2Loss(MaskedLoss):
    """Mean squared error over the foreground's pixels and channels, per image; 0 for an empty mask.

    Unlike the l2 term of training, which is over the foreground of all images together.

    Its arguments are those of :class:`gslrm.model.masked_loss.MaskedLoss`.
    """

    smallest_side = 1

    def _loss(
        self,
        rendering: Float[Tensor, "n c h w"],
        target: Float[Tensor, "n c h w"],
        foreground: Bool[Tensor, "n 1 h w"],
    ) -> Float[Tensor, ""]:
        return _foreground_mean((rendering - target).where(foreground, 0.0).square(), foreground)


MASKED_LOSSES: Mapping[str, type[MaskedLoss]] = MappingProxyType(
    {
        "stable": MaskedSsimLoss,
        "clamp": ClampedSsimLoss,
        "foreground": ForegroundSsimLoss,
        "ms_ssim": MaskedMsSsimLoss,
        "l1": MaskedL1Loss,
        "l2": MaskedL2Loss,
    }
)
"""What the configuration calls each."""


def masked_loss(name: str, neutral_value: float = 0.5) -> MaskedLoss:
    """The masked loss of that name in :data:`MASKED_LOSSES`, for training: it doesn't look at the images' values.

    Args:
        neutral_value: what the background is set to, for images in [0, 1]; the errors ``l1`` and ``l2`` have no use for
            it.

    Raises:
        ValueError: no loss has that name, or ``neutral_value`` is far outside [0, 1].
    """
    if name not in MASKED_LOSSES:
        raise ValueError(f"no masked loss is called {name!r}; there are {', '.join(MASKED_LOSSES)}.")
    kind = MASKED_LOSSES[name]
    if issubclass(kind, ClampedSsimLoss):
        return kind(neutral_value)
    if issubclass(kind, NeutralBackgroundLoss):
        return kind(neutral_value, check_values=False)
    return kind(check_values=False)


def _foreground_mean(error: Tensor, foreground: Tensor) -> Tensor:
    pixels = foreground.sum(dim=(1, 2, 3)).clamp(min=1)
    return (error.sum(dim=(1, 2, 3)) / (pixels * error.shape[1])).mean()
