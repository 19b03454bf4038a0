"""SSIM losses of GS-LRM, by FaceLift's names: plain, and masked.

Both are the difference form of :mod:`gslrm.model.ssim_difference`, in float32 with autocast off whatever surrounds
them. What else has been tried against a negative masked SSIM loss is in :mod:`gslrm.model.tried_losses`.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gslrm.model.gaussian_window import WINDOW_SIZE
from gslrm.model.image_checks import check_image_pair, check_values
from gslrm.model.masked_loss import NeutralBackgroundLoss, positive, widened
from gslrm.model.ssim_difference import SsimConstants, ssim_loss_difference_form


class SsimLoss(nn.Module):
    """1 − SSIM (11-pixel Gaussian window, σ 1.5, valid windows), the mean over windows, channels and images.

    Args:
        data_range: L, the images' range; SSIM's constants are C1 = (0.01·L)², C2 = (0.03·L)².
        check_values: refuse NaN, infinity and images plainly of another range.  Costs a synchronisation on a
            GPU; with ``False`` a NaN in an image makes the loss NaN.
    """

    def __init__(self, data_range: float = 1.0, *, check_values: bool = True) -> None:
        super().__init__()
        self.data_range = positive(data_range, "data_range")
        self.check_values = check_values

    def forward(self, x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
        """The loss in [0, 2], float32 (float64 for float64 images), exactly 0 where x equals y.

        Raises:
            TypeError: x or y is no floating-point tensor.
            ValueError: shapes that differ or are not (N, C, H, W), a side under 11 pixels, NaN or infinity.
        """
        check_image_pair(x, y, ("x", "y"), WINDOW_SIZE)
        with torch.autocast(x.device.type, enabled=False):
            x, y = widened(x, y)
            if self.check_values:
                check_values(x, "x", self.data_range)
                check_values(y, "y", self.data_range)
            constants = SsimConstants.of(self.data_range, offset=self.data_range)
            return ssim_loss_difference_form(x - y, x + y - constants.offset, constants)

    def extra_repr(self) -> str:
        return f"data_range={self.data_range:g}"


class MaskedSsimLoss(NeutralBackgroundLoss):
    """1 − SSIM of two images whose background (mask ≤ 0.5) is first set to one neutral value; in [0, 2].

    Args:
        neutral_value: what both backgrounds are set to, in the images' units.
        data_range: L, the images' range.
        check_values: as for :class:`SsimLoss`; looks only at what the mask lets through.

    A batch's loss is the mean of its images' losses. What the mask hides, NaN included, has no influence on value or
    gradient.
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
        return ssim_loss_difference_form(difference, total, constants, self._window_weight(foreground, difference))

    def _window_weight(self, foreground: Tensor, difference: Tensor) -> Tensor | None:
        """Each window's weight in the mean over windows, in the difference's dtype; ``None``: all alike."""
        return None
