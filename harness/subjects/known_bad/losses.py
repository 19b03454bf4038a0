"""Masked SSIM losses as they were: both images set to neutral grey where the mask hides, then pytorch-msssim."""

from __future__ import annotations

import pytorch_msssim
from jaxtyping import Float
from torch import Tensor, nn

_NEUTRAL = 0.5


class LossBeforeFix(nn.Module):
    """1 − SSIM, in whatever precision surrounds it."""

    def __init__(self) -> None:
        super().__init__()
        self.ssim = pytorch_msssim.SSIM(data_range=1.0, win_size=11, size_average=True, channel=3)

    def similarity(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        binary = (mask > 0.5).float()
        neutral = _NEUTRAL * (1.0 - binary)
        value: Tensor = self.ssim(rendering * binary + neutral, target * binary + neutral)
        return value

    def forward(
        self, rendering: Float[Tensor, "n 3 h w"], target: Float[Tensor, "n 3 h w"], mask: Float[Tensor, "n 1 h w"]
    ) -> Float[Tensor, ""]:
        """Meant to lie in [0, 2]."""
        return 1.0 - self.similarity(rendering, target, mask)


class LossWithClamp(LossBeforeFix):
    """1 − clamp(SSIM, 0, 1): the fix that was applied."""

    def forward(
        self, rendering: Float[Tensor, "n 3 h w"], target: Float[Tensor, "n 3 h w"], mask: Float[Tensor, "n 1 h w"]
    ) -> Float[Tensor, ""]:
        """In [0, 1]."""
        return 1.0 - self.similarity(rendering, target, mask).clamp(0.0, 1.0)
