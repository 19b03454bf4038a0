"""The images and masks that times are taken on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from harness.cases.loss_inputs import MaskedPair
from harness.errors import UsageError

_SMALLEST, _LARGEST = 11, 4096
# Centres of islands as shares of height and width: the middle, then far apart.
_CENTRES = ((0.5, 0.5), (0.1, 0.1), (0.9, 0.9), (0.1, 0.9), (0.9, 0.1))


@dataclass(frozen=True)
class Scene:
    """Of what size the images are, and how much of them is foreground.

    Attributes:
        images: how many at once.
        side: height and width in pixels.
        share: of each island in the image's pixels; 1 with one island: no mask hides anything.
        islands: discs of foreground, from one, in the middle, to five, far apart.
    """

    images: int
    side: int
    share: float = 1.0
    islands: int = 1

    def __post_init__(self) -> None:
        if not _SMALLEST <= self.side <= _LARGEST:
            raise UsageError(f"images of {self.side} pixels a side can't be timed: {_SMALLEST} to {_LARGEST} can.")
        if not 0.0 < self.share <= 1.0:
            raise UsageError(f"the foreground's share must be over 0 and at most 1, not {self.share:g}.")
        if self.images < 1:
            raise UsageError(f"{self.images} images can't be timed; at least 1 can.")
        if not 1 <= self.islands <= len(_CENTRES):
            raise UsageError(f"there can be 1 to {len(_CENTRES)} islands, not {self.islands}.")

    @property
    def size(self) -> str:
        """As tables tell it."""
        return f"{self.images}×3×{self.side}²"

    @property
    def foreground(self) -> str:
        """Likewise."""
        percent = f"{100 * self.share:.3g} %"
        return percent if self.islands == 1 else f"{self.islands} islands of {percent}"

    def pair(self, device: str = "cpu") -> MaskedPair:
        """Float32 images in [0, 1]: a coarse random picture with noise, rendered with a little more noise."""
        numbers = torch.Generator().manual_seed(0)
        coarse = torch.rand(self.images, 3, 4, 4, generator=numbers)
        smooth = torch.nn.functional.interpolate(coarse, (self.side, self.side), mode="bilinear")
        shape = (self.images, 3, self.side, self.side)
        target = (0.8 * smooth + 0.2 * torch.rand(shape, generator=numbers)).clamp(0.0, 1.0)
        rendering = (target + 0.05 * (torch.rand(shape, generator=numbers) - 0.5)).clamp(0.0, 1.0)
        mask = self._mask().expand(self.images, 1, -1, -1).contiguous()
        return MaskedPair(rendering.to(device), target.to(device), mask.to(device))

    def _mask(self) -> Float[Tensor, "h w"]:
        mask = torch.zeros(self.side, self.side)
        if self.share == 1.0 and self.islands == 1:
            return torch.ones_like(mask)
        pixels = max(1, round(self.share * self.side**2))
        line = torch.arange(self.side)
        for row, column in _CENTRES[: self.islands]:
            distance = (line - row * (self.side - 1))[:, None] ** 2 + (line - column * (self.side - 1))[None, :] ** 2
            mask.view(-1)[distance.flatten().topk(pixels, largest=False).indices] = 1.0
        return mask


def grid(sizes: Sequence[tuple[int, int]], shares: Sequence[float], islands: bool) -> list[Scene]:
    """Every number of images and side with every share of foreground; and where asked for, with five islands of a
    thousandth of the picture each.

    Raises:
        UsageError: as :class:`Scene`.
    """
    scenes = [Scene(images, side, share) for images, side in sizes for share in shares]
    return scenes + [Scene(images, side, 0.001, 5) for images, side in sizes if islands]
