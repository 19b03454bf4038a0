"""SSIM losses of GS-LRM: plain, and masked with a neutral value in the background's place.

Both are the difference form of :mod:`gslrm.model.ssim_difference`, in float32 with autocast off whatever surrounds
them.  What else has been tried against a negative masked SSIM loss is in :mod:`gslrm.model.tried_losses`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gslrm.model.gaussian_window import WINDOW_SIZE
from gslrm.model.image_checks import check_image_pair, check_values
from gslrm.model.masked_loss import MaskedLoss, positive, widened
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


class MaskedSsimLoss(MaskedLoss):
    """1 − SSIM, in [0, 2], of two images whose background is first set to one neutral value, over all windows."""

    def _loss(self, rendering: Tensor, target: Tensor, foreground: Tensor) -> Tensor:
        difference, total, constants = self._parts(rendering, target, foreground)
        return ssim_loss_difference_form(difference, total, constants)

    def _parts(self, rendering: Tensor, target: Tensor, foreground: Tensor) -> tuple[Tensor, Tensor, SsimConstants]:
        """Difference and sum of the composited images, the sum less its constant background, and the constants."""
        constants = SsimConstants.of(self.data_range, offset=2.0 * self.neutral_value)
        difference = (rendering - target).where(foreground, 0.0)
        return difference, (rendering + target - constants.offset).where(foreground, 0.0), constants
