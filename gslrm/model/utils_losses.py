"""SSIM losses of GS-LRM: plain, and masked with a choice of what stands in for the background.

``stable``, the default, is the difference form of :mod:`gslrm.model.ssim_difference`, in float32 with autocast off
whatever surrounds it.  The other choices of :class:`MaskedSsimLoss` are what has been tried against a negative
masked SSIM loss; they are kept to be compared.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from gslrm.model.gaussian_window import WINDOW_SIZE, window_mean
from gslrm.model.image_checks import check_image_pair, check_mask, check_values
from gslrm.model.ssim_difference import SsimConstants, ssim_loss_difference_form
from gslrm.model.ssim_textbook import MS_SSIM_SMALLEST_SIDE, clamped_ssim_loss, ms_ssim_loss

Variant = Literal["stable", "clamp", "foreground", "ms_ssim", "l1", "l2"]


class SsimLoss(nn.Module):
    """1 − SSIM (11-pixel Gaussian window, σ 1.5, valid windows), the mean over windows, channels and images.

    Args:
        data_range: L, the images' range; SSIM's constants are C1 = (0.01·L)², C2 = (0.03·L)².
        check_values: refuse NaN, infinity and images plainly of another range.  Costs a synchronisation on a
            GPU; with ``False`` a NaN in an image makes the loss NaN.
    """

    def __init__(self, data_range: float = 1.0, *, check_values: bool = True) -> None:
        super().__init__()
        self.data_range = _positive(data_range, "data_range")
        self.check_values = check_values

    def forward(self, x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
        """The loss in [0, 2], float32 (float64 for float64 images), exactly 0 where x equals y.

        Raises:
            TypeError: x or y is no floating-point tensor.
            ValueError: shapes that differ or are not (N, C, H, W), a side under 11 pixels, NaN or infinity.
        """
        check_image_pair(x, y, ("x", "y"), WINDOW_SIZE)
        with torch.autocast(x.device.type, enabled=False):
            x, y = _widened(x, y)
            if self.check_values:
                check_values(x, "x", self.data_range)
                check_values(y, "y", self.data_range)
            constants = SsimConstants.of(self.data_range, offset=self.data_range)
            return ssim_loss_difference_form(x - y, x + y - constants.offset, constants)

    def extra_repr(self) -> str:
        return f"data_range={self.data_range:g}"


class MaskedSsimLoss(nn.Module):
    """SSIM loss of two images whose background (mask ≤ 0.5) is first set to one neutral value.

    Args:
        neutral_value: what both backgrounds are set to, in the images' units.
        variant: how the loss is then formed.

            - ``stable``: 1 − SSIM over all windows, in the difference form.
            - ``clamp``: 1 − clamp(SSIM, 0, 1) of pytorch-msssim under whatever autocast surrounds it, as it was once
              applied: in range, but wrong in half precision and without gradient wherever it clamps.
            - ``foreground``: 1 − SSIM averaged over the windows with the window's share of foreground, its Gaussian
              mean of the mask, as weight, normalised per image.  The background then counts only where it shares a
              window with the foreground; any non-empty mask, one pixel included, has a positive weight, and an empty
              one gives 0.
            - ``ms_ssim``: 1 − MS-SSIM through pytorch-msssim, in float64; sides must exceed 160 pixels.
            - ``l1``, ``l2``: mean absolute or squared error over the foreground's pixels and channels, per image;
              0 for an empty mask.
        data_range: L, the images' range.
        check_values: as for :class:`SsimLoss`; looks only at what the mask lets through.

    All but ``clamp`` are float32 (float64 for float64 images) with autocast off.  A batch's loss is the mean of its
    images' losses.  What the mask hides, NaN included, has no influence on value or gradient.
    """

    def __init__(
        self,
        neutral_value: float = 0.5,
        variant: Variant = "stable",
        *,
        data_range: float = 1.0,
        check_values: bool = True,
    ) -> None:
        super().__init__()
        if variant not in get_args(Variant):
            raise ValueError(f"variant must be one of {', '.join(get_args(Variant))}, not {variant!r}.")
        self.data_range = _positive(data_range, "data_range")
        if not abs(neutral_value) <= 2.0 * self.data_range:
            raise ValueError(
                f"neutral_value must be a number of the images' range, [0, {self.data_range:g}], not {neutral_value!r}."
            )
        self.neutral_value = float(neutral_value)
        self.variant: Variant = variant
        self.check_values = check_values

    def forward(
        self,
        rendering: Float[Tensor, "n c h w"],
        target: Float[Tensor, "n c h w"],
        mask: Shaped[Tensor, "n 1 h w"],
    ) -> Float[Tensor, ""]:
        """The loss in [0, 2]; the foreground is where ``mask`` exceeds 0.5.

        Raises:
            TypeError: an image is no floating-point tensor, or the mask no real one.
            ValueError: shapes that don't fit, a side under 11 pixels (161 for ``ms_ssim``), NaN in the mask, NaN or
                infinity in the foreground.
        """
        side = {"ms_ssim": MS_SSIM_SMALLEST_SIDE, "l1": 1, "l2": 1}.get(self.variant, WINDOW_SIZE)
        check_image_pair(rendering, target, ("rendering", "target"), side)
        check_mask(mask, rendering)
        foreground = mask > 0.5
        if self.variant == "clamp":
            images = (self._composite(image, foreground) for image in (rendering, target))
            return clamped_ssim_loss(*images, data_range=self.data_range)
        with torch.autocast(rendering.device.type, enabled=False):
            rendering, target = _widened(rendering, target)
            if self.check_values:
                for image, name in ((rendering, "rendering"), (target, "target")):
                    check_values(image.detach().where(foreground, 0.0), name, self.data_range)
            if self.variant == "ms_ssim":
                images = (self._composite(image, foreground) for image in (rendering, target))
                return ms_ssim_loss(*images, data_range=self.data_range)
            difference = (rendering - target).where(foreground, 0.0)
            if self.variant in ("l1", "l2"):
                error = difference.abs() if self.variant == "l1" else difference.square()
                pixels = foreground.sum(dim=(1, 2, 3)).clamp(min=1)
                return (error.sum(dim=(1, 2, 3)) / (pixels * error.shape[1])).mean()
            constants = SsimConstants.of(self.data_range, offset=2.0 * self.neutral_value)
            total = (rendering + target - constants.offset).where(foreground, 0.0)
            weight = _foreground_weight(foreground, rendering.dtype) if self.variant == "foreground" else None
            return ssim_loss_difference_form(difference, total, constants, weight)

    def extra_repr(self) -> str:
        return f"neutral_value={self.neutral_value:g}, variant={self.variant!r}, data_range={self.data_range:g}"

    def _composite(self, image: Tensor, foreground: Tensor) -> Tensor:
        return torch.where(foreground, image, torch.full_like(image, self.neutral_value))


def _foreground_weight(foreground: Shaped[Tensor, "n 1 h w"], dtype: torch.dtype) -> Tensor:
    """Each window's share of foreground, normalised to sum to 1/n over an image's windows, 0 where it is empty."""
    share = window_mean(foreground.squeeze(1).to(dtype)).clamp(min=0.0).unsqueeze(1)
    sums = share.sum(dim=(1, 2, 3), keepdim=True)
    return share / torch.where(sums > 0, sums, torch.ones_like(sums)) / foreground.shape[0]


def _widened(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    wide = torch.float64 if torch.float64 in (x.dtype, y.dtype) else torch.float32
    return x.to(wide), y.to(wide)


def _positive(value: float, name: str) -> float:
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} must be a positive number, not {value!r}.")
    return float(value)
