"""SSIM losses of GS-LRM, by FaceLift's names: plain, and masked.

Both are the difference form of :mod:`gslrm.model.ssim_difference`, in float32 with autocast off whatever surrounds
them. What else has been tried against a negative masked SSIM loss is in :mod:`gslrm.model.tried_losses`.
"""

from __future__ import annotations

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from gslrm.model.gaussian_window import WINDOW_SIZE
from gslrm.model.image_checks import check_image_pair, check_mask
from gslrm.model.masked_loss import NeutralBackgroundLoss, positive, widened
from gslrm.model.ssim_difference import SsimConstants
from gslrm.model.ssim_loss import SsimTerms, ssim_loss
from gslrm.model.ssim_paths import checked_path

_NAMES = ("rendering", "target")


class SsimLoss(nn.Module):
    """1 − SSIM (11-pixel Gaussian window, σ 1.5, valid windows), the mean over windows, channels and images.

    Args:
        data_range: L, the images' range; SSIM's constants are C1 = (0.01·L)², C2 = (0.03·L)².
        check_values: refuse NaN, infinity and images plainly of another range.  Costs a synchronisation on a
            GPU; with ``False`` a NaN in an image makes the loss NaN.
        path: who calculates it: ``numba`` in one compiled pass on the CPU, ``triton`` in one on a CUDA device,
            ``torch`` by torch's own operations, or ``auto``, what :mod:`gslrm.model.ssim_paths` takes.
    """

    def __init__(self, data_range: float = 1.0, *, check_values: bool = True, path: str = "auto") -> None:
        super().__init__()
        self.data_range = positive(data_range, "data_range")
        self.check_values = check_values
        self.path = checked_path(path)

    def forward(self, x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
        """The loss in [0, 2], float32 (float64 for float64 images), exactly 0 where x equals y.

        Raises:
            TypeError: x or y is no floating-point tensor.
            ValueError: shapes that differ or are not (N, C, H, W), a side under 11 pixels, NaN or infinity.
        """
        check_image_pair(x, y, ("x", "y"), WINDOW_SIZE)
        constants = SsimConstants.of(self.data_range, offset=self.data_range)
        terms = SsimTerms(constants, self.path, self.data_range if self.check_values else 0.0)
        return ssim_loss(*widened(x, y), None, terms)

    def extra_repr(self) -> str:
        return f"data_range={self.data_range:g}"


class MaskedSsimLoss(NeutralBackgroundLoss):
    """1 − SSIM of two images whose background (mask ≤ 0.5) is first set to one neutral value; in [0, 2].

    Args:
        neutral_value: what both backgrounds are set to, in the images' units.
        data_range: L, the images' range.
        check_values: as for :class:`SsimLoss`; looks only at what the mask lets through.
        path: as for :class:`SsimLoss`.

    A batch's loss is the mean of its images' losses. What the mask hides, NaN included, has no influence on value or
    gradient, and costs next to no time on the CPU.
    """

    def __init__(
        self,
        neutral_value: float = 0.5,
        *,
        data_range: float = 1.0,
        check_values: bool = True,
        path: str = "auto",
    ) -> None:
        super().__init__(neutral_value, data_range=data_range, check_values=check_values)
        self.path = checked_path(path)

    def forward(
        self,
        rendering: Float[Tensor, "n c h w"],
        target: Float[Tensor, "n c h w"],
        mask: Shaped[Tensor, "n 1 h w"],
    ) -> Float[Tensor, ""]:
        """The loss in [0, 2], float32 (float64 for float64 images), exactly 0 where the foregrounds are equal.

        Raises:
            TypeError: an image is no floating-point tensor, or the mask no real one.
            ValueError: shapes that don't fit, a side under 11 pixels, NaN in the mask, NaN or infinity in the
                foreground.
        """
        check_image_pair(rendering, target, _NAMES, self.smallest_side)
        check_mask(mask, rendering, values=False)
        return self._loss(*widened(rendering, target), mask)

    def _loss(
        self,
        rendering: Float[Tensor, "n c h w"],
        target: Float[Tensor, "n c h w"],
        mask: Shaped[Tensor, "n 1 h w"],
    ) -> Float[Tensor, ""]:
        constants = SsimConstants.of(self.data_range, offset=2.0 * self.neutral_value)
        checked_range = self.data_range if self.check_values else 0.0
        return ssim_loss(rendering, target, mask, SsimTerms(constants, self.path, checked_range, _NAMES))
