"""The float64 truth of 1 − SSIM with a window around every pixel, zeros beyond the image's edges.

So is SSIM in the code of Kerbl et al. 2023 (3D Gaussian Splatting): convolutions of padding 5 for every moment, the
mean over all pixels. A window's weights always sum to 1, also where part of them falls on zeros, which count as black
pixels in both images. It is therefore 1 − SSIM of images with a black border of 5 pixels.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from harness.cases.loss_inputs import MaskedPair
from harness.oracle.masked_ssim import holds_images_alone, ssim_loss
from harness.oracle.truth import Truth, differentiated

_BORDER = 5


def zero_padded_ssim_truth(pair: MaskedPair) -> Truth:
    """The mean over the windows around all pixels, over channels and images, whatever the mask."""
    waits = holds_images_alone(_bordered(pair.rendering).shape)
    return differentiated(pair, lambda x, y, mask: ssim_loss(_bordered(x), _bordered(y)), waits)


def _bordered(image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h+10 w+10"]:
    return F.pad(image, (_BORDER,) * 4)
