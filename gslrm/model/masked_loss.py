"""What every masked image loss has in common: its arguments are checked, and what the mask hides has no say."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from gslrm.model.gaussian_window import WINDOW_SIZE
from gslrm.model.image_checks import check_image_pair, check_mask, check_values


class MaskedLoss(nn.Module):
    """A loss of two images where a mask shows them.

    Args:
        neutral_value: what stands in for the background (mask ≤ 0.5) of both images, in their units, where the loss
            needs something there.
        data_range: L, the images' range.
        check_values: refuse NaN, infinity and images plainly of another range in what the mask lets through.  Costs
            a synchronisation on a GPU; with ``False`` a NaN in the foreground makes the loss NaN.

    float32 (float64 for float64 images) with autocast off.  A batch's loss is the mean of its images' losses.  What
    the mask hides, NaN included, has no influence on value or gradient.
    """

    smallest_side: ClassVar[int] = WINDOW_SIZE

    def __init__(self, neutral_value: float = 0.5, *, data_range: float = 1.0, check_values: bool = True) -> None:
        super().__init__()
        self.data_range = positive(data_range, "data_range")
        if not abs(neutral_value) <= 2.0 * self.data_range:
            raise ValueError(
                f"neutral_value must be a number of the images' range, [0, {self.data_range:g}], not {neutral_value!r}."
            )
        self.neutral_value = float(neutral_value)
        self.check_values = check_values

    def forward(
        self,
        rendering: Float[Tensor, "n c h w"],
        target: Float[Tensor, "n c h w"],
        mask: Shaped[Tensor, "n 1 h w"],
    ) -> Float[Tensor, ""]:
        """The loss; the foreground is where ``mask`` exceeds 0.5.

        Raises:
            TypeError: an image is no floating-point tensor, or the mask no real one.
            ValueError: shapes that don't fit, a side under ``smallest_side`` pixels, NaN in the mask, NaN or infinity
                in the foreground.
        """
        foreground = self._foreground(rendering, target, mask)
        with torch.autocast(rendering.device.type, enabled=False):
            rendering, target = widened(rendering, target)
            if self.check_values:
                for image, name in ((rendering, "rendering"), (target, "target")):
                    check_values(image.detach().where(foreground, 0.0), name, self.data_range)
            return self._loss(rendering, target, foreground)

    def extra_repr(self) -> str:
        return f"neutral_value={self.neutral_value:g}, data_range={self.data_range:g}"

    def _foreground(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Bool[Tensor, "n 1 h w"]:
        check_image_pair(rendering, target, ("rendering", "target"), self.smallest_side)
        check_mask(mask, rendering)
        return mask > 0.5

    def _loss(
        self, rendering: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"], foreground: Bool[Tensor, "n 1 h w"]
    ) -> Float[Tensor, ""]:
        raise NotImplementedError

    def _composite(self, image: Tensor, foreground: Tensor) -> Tensor:
        return torch.where(foreground, image, torch.full_like(image, self.neutral_value))


def widened(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64 if either is, else in float32."""
    wide = torch.float64 if torch.float64 in (x.dtype, y.dtype) else torch.float32
    return x.to(wide), y.to(wide)


def positive(value: float, name: str) -> float:
    """The value, which must be a finite number above 0."""
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} must be a positive number, not {value!r}.")
    return float(value)
