"""What else has been tried against a negative masked SSIM loss, kept to be compared.

:func:`masked_loss` makes each by the name that the configuration has for it.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from gslrm.model.gaussian_window import window_mean
from gslrm.model.masked_loss import MaskedLoss
from gslrm.model.ssim_difference import ssim_loss_difference_form
from gslrm.model.ssim_textbook import MS_SSIM_SMALLEST_SIDE, clamped_ssim_loss, ms_ssim_loss
from gslrm.model.utils_losses import MaskedSsimLoss

Variant = Literal["stable", "clamp", "foreground", "ms_ssim", "l1", "l2"]


class ClampedSsimLoss(MaskedLoss):
    """1 − clamp(SSIM, 0, 1) of pytorch-msssim under whatever autocast surrounds it, as it was once applied.

    In range, but wrong in half precision and without gradient wherever it clamps.  No values are checked.
    """

    def forward(
        self,
        rendering: Float[Tensor, "n c h w"],
        target: Float[Tensor, "n c h w"],
        mask: Shaped[Tensor, "n 1 h w"],
    ) -> Float[Tensor, ""]:
        """The loss in [0, 1]; raises as :meth:`MaskedLoss.forward`."""
        foreground = self._foreground(rendering, target, mask)
        images = (self._composite(image, foreground) for image in (rendering, target))
        return clamped_ssim_loss(*images, data_range=self.data_range)


class ForegroundSsimLoss(MaskedSsimLoss):
    """1 − SSIM averaged over the windows with the window's share of foreground as weight, normalised per image.

    The share is the Gaussian mean of the mask.  The background counts only where it shares a window with the
    foreground; any non-empty mask, one pixel included, has a positive weight, and an empty one gives 0.
    """

    def _loss(self, rendering: Tensor, target: Tensor, foreground: Tensor) -> Tensor:
        difference, total, constants = self._parts(rendering, target, foreground)
        weight = _foreground_weight(foreground, rendering.dtype)
        return ssim_loss_difference_form(difference, total, constants, weight)


class MaskedMsSsimLoss(MaskedLoss):
    """1 − MS-SSIM of the composited images through pytorch-msssim, in float64; sides must exceed 160 pixels."""

    smallest_side = MS_SSIM_SMALLEST_SIDE

    def _loss(self, rendering: Tensor, target: Tensor, foreground: Tensor) -> Tensor:
        images = (self._composite(image, foreground) for image in (rendering, target))
        return ms_ssim_loss(*images, data_range=self.data_range)


class MaskedL1Loss(MaskedLoss):
    """Mean absolute error over the foreground's pixels and channels, per image; 0 for an empty mask."""

    smallest_side = 1

    def _loss(self, rendering: Tensor, target: Tensor, foreground: Tensor) -> Tensor:
        return _foreground_mean((rendering - target).where(foreground, 0.0).abs(), foreground)


class MaskedL2Loss(MaskedLoss):
    """Mean squared error over the foreground's pixels and channels, per image; 0 for an empty mask."""

    smallest_side = 1

    def _loss(self, rendering: Tensor, target: Tensor, foreground: Tensor) -> Tensor:
        return _foreground_mean((rendering - target).where(foreground, 0.0).square(), foreground)


MASKED_LOSSES: dict[Variant, type[MaskedLoss]] = {
    "stable": MaskedSsimLoss,
    "clamp": ClampedSsimLoss,
    "foreground": ForegroundSsimLoss,
    "ms_ssim": MaskedMsSsimLoss,
    "l1": MaskedL1Loss,
    "l2": MaskedL2Loss,
}


def masked_loss(variant: Variant, neutral_value: float = 0.5, *, check_values: bool = True) -> MaskedLoss:
    """The loss that ``ssim_variant`` names in the configuration; ``stable`` is :class:`MaskedSsimLoss`."""
    return MASKED_LOSSES[variant](neutral_value, check_values=check_values)


def _foreground_weight(foreground: Shaped[Tensor, "n 1 h w"], dtype: torch.dtype) -> Tensor:
    """Each window's share of foreground, normalised to sum to 1/n over an image's windows, 0 where it is empty."""
    share = window_mean(foreground.squeeze(1).to(dtype)).clamp(min=0.0).unsqueeze(1)
    sums = share.sum(dim=(1, 2, 3), keepdim=True)
    return share / torch.where(sums > 0, sums, torch.ones_like(sums)) / foreground.shape[0]


def _foreground_mean(error: Tensor, foreground: Tensor) -> Tensor:
    pixels = foreground.sum(dim=(1, 2, 3)).clamp(min=1)
    return (error.sum(dim=(1, 2, 3)) / (pixels * error.shape[1])).mean()
