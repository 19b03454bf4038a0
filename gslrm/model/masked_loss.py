"""What every masked loss of two images has in common: its checks, its precision, and what the mask hides."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from gslrm.model.gaussian_window import WINDOW_SIZE
from gslrm.model.image_checks import check_image_pair, check_mask, check_values


class MaskedLoss(nn.Module, ABC):
    """A loss of two images over the foreground: where the mask exceeds 0.5.

    A batch's loss is the mean of its images' losses. What the mask hides, NaN included, has no influence on value or
    gradient. It is float32 (float64 for float64 images), with autocast off.

    Args:
        data_range: L, the images' range.
        check_values: refuse NaN, infinity and values plainly of another range in the foreground. Costs a
            synchronisation on a GPU; with ``False`` a NaN in the foreground makes the loss NaN.

    Attributes:
        smallest_side: pixels that each side of an image must have at least.

    Raises:
        ValueError: ``data_range`` is no positive number.
    """

    smallest_side: int = WINDOW_SIZE

    def __init__(self, *, data_range: float = 1.0, check_values: bool = True) -> None:
        super().__init__()
        self.data_range = positive(data_range, "data_range")
        self.check_values = check_values

    def forward(
        self,
        rendering: Float[Tensor, "n c h w"],
        target: Float[Tensor, "n c h w"],
        mask: Shaped[Tensor, "n 1 h w"],
    ) -> Float[Tensor, ""]:
        """The loss, never negative.

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
                    check_values(image, name, self.data_range, foreground)
            return self._loss(rendering, target, foreground)

    def extra_repr(self) -> str:
        return f"data_range={self.data_range:g}"

    def _foreground(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Bool[Tensor, "n 1 h w"]:
        """Where the loss looks, once shapes and dtypes are found to fit."""
        check_image_pair(rendering, target, ("rendering", "target"), self.smallest_side)
        check_mask(mask, rendering)
        return mask > 0.5

    @abstractmethod
    def _loss(
        self,
        rendering: Float[Tensor, "n c h w"],
        target: Float[Tensor, "n c h w"],
        foreground: Bool[Tensor, "n 1 h w"],
    ) -> Float[Tensor, ""]:
        """The loss of images that were checked and are in the dtype to calculate in."""


class NeutralBackgroundLoss(MaskedLoss):
    """A masked loss of two images whose background is first set to one neutral value.

    Args:
        neutral_value: what both backgrounds are set to, in the images' units.
        data_range, check_values: as for :class:`MaskedLoss`.

    Raises:
        ValueError: ``neutral_value`` is far outside the images' range, or ``data_range`` no positive number.
    """

    def __init__(self, neutral_value: float = 0.5, *, data_range: float = 1.0, check_values: bool = True) -> None:
        super().__init__(data_range=data_range, check_values=check_values)
        if not abs(neutral_value) <= 2.0 * self.data_range:
            raise ValueError(
                f"neutral_value must be a number of the images' range, [0, {self.data_range:g}], not {neutral_value!r}."
            )
        self.neutral_value = float(neutral_value)

    def extra_repr(self) -> str:
        return f"neutral_value={self.neutral_value:g}, {super().extra_repr()}"

    def _composite(self, image: Tensor, foreground: Tensor) -> Tensor:
        return torch.where(foreground, image, torch.full_like(image, self.neutral_value))


def widened(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both images in float64 where one of them is, else in float32."""
    wide = torch.float64 if torch.float64 in (x.dtype, y.dtype) else torch.float32
    return x.to(wide), y.to(wide)


def positive(value: float, name: str) -> float:
    """The value as a float.

    Raises:
        ValueError: it is not positive, or not finite.
    """
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} must be a positive number, not {value!r}.")
    return float(value)
