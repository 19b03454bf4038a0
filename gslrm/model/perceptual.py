"""The perceptual loss: distances between VGG19's features of two pictures.

Chen & Koltun, "Photographic Image Synthesis with Cascaded Refinement Networks" (2017), eq. 1: the raw
pictures and five layers of VGG19 (Simonyan & Zisserman 2014), here with average pooling.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from gslrm.model.vgg_weights import VggWeights

LAYER_WEIGHTS = {2: 1 / 2.6, 4: 1 / 4.8, 6: 1 / 3.7, 10: 1 / 5.6, 14: 10 / 1.5}
"""What each compared layer counts, by its convolution from 1, after ReLU; the raw picture counts 1."""
POOL_AFTER = (2, 4, 8, 12)
"""Convolutions, from 1, that a 2 × 2 average pooling follows."""
MEAN = (123.68, 116.779, 103.939)
"""ImageNet's mean red, green and blue on the scale 0–255."""
SMALLEST_SIDE = 16
"""The least height and width, px: four poolings must leave a pixel for convolution 14."""


class PerceptualLoss(nn.Module):
    """Σ w · mean |Δ| / 255 over the raw picture and VGG19's convolutions 2, 4, 6, 10 and 14.

    VGG19 is fixed: its weights are buffers that get no gradient and stay out of the state dict.
    """

    mean: Tensor

    def __init__(self, weights: VggWeights) -> None:
        super().__init__()
        mean = torch.tensor(MEAN, dtype=torch.float64).view(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        for i, (kernel, bias) in enumerate(zip(weights.kernels, weights.biases, strict=True), start=1):
            self.register_buffer(f"kernel{i}", kernel.detach().clone(), persistent=False)
            self.register_buffer(f"bias{i}", bias.detach().clone(), persistent=False)

    def features(self, picture: Float[Tensor, "n 3 h w"]) -> Iterator[tuple[float, Tensor]]:
        """What is compared, with what it counts: the picture on the scale 0–255 minus the mean, then five
        layers."""
        x = picture * 255 - self.mean.to(picture.dtype)
        yield 1.0, x
        for i in range(1, max(LAYER_WEIGHTS) + 1):
            kernel, bias = self.get_buffer(f"kernel{i}"), self.get_buffer(f"bias{i}")
            x = F.relu(F.conv2d(x, kernel.to(x.dtype), bias.to(x.dtype), padding=1))
            if i in LAYER_WEIGHTS:
                yield LAYER_WEIGHTS[i], x
            if i in POOL_AFTER:
                x = F.avg_pool2d(x, 2)

    def forward(self, rendering: Float[Tensor, "n 3 h w"], target: Float[Tensor, "n 3 h w"]) -> Float[Tensor, ""]:
        """The loss of pictures in [0, 1]; 0 or more, and 0 for equal pictures.

        In float32 (float64 when either picture is) whatever autocast says; a gradient goes back in its
        picture's dtype. On CUDA convolutions follow `torch.backends.cudnn.allow_tf32`. Raises ValueError for
        pictures that differ in shape, are not RGB or are smaller than 16 × 16 px.
        """
        if rendering.shape != target.shape or rendering.dim() != 4 or rendering.shape[1] != 3:
            raise ValueError(
                f"pictures of shapes {tuple(rendering.shape)} and {tuple(target.shape)}: expected the same "
                "(n, 3, height, width) twice"
            )
        if min(rendering.shape[2:]) < SMALLEST_SIDE or not len(rendering):
            raise ValueError(
                f"pictures of shape {tuple(rendering.shape)}: the perceptual loss needs at least one, of at "
                f"least {SMALLEST_SIDE} × {SMALLEST_SIDE} px"
            )
        double = torch.float64 in (rendering.dtype, target.dtype)
        dtype = torch.float64 if double else torch.float32
        with torch.autocast(rendering.device.type, enabled=False):
            pairs = zip(self.features(rendering.to(dtype)), self.features(target.to(dtype)), strict=True)
            terms = [weight * (a - b).abs().mean() / 255 for (weight, a), (_, b) in pairs]
            return torch.stack(terms).sum()
