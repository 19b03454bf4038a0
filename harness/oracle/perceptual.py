"""Float64 truth of the perceptual loss: distances between features of two pictures in VGG19 with average pooling.

Chen & Koltun 2017, eq. 1, on pictures in 0–255 minus ImageNet's mean: Σ w · mean|Δ| / 255 over the raw picture (w = 1)
and the convolutions 2, 4, 6, 10 and 14 after ReLU. The kernels are the subject's own, since what is tested is what is
done with them. Shares no code with any subject.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from harness.cases.loss_inputs import MaskedPair
from harness.oracle.truth import Truth, exact

Convolutions = Sequence[tuple[Float[Tensor, "out in 3 3"], Float[Tensor, " out"]]]

_MEAN_RGB = (123.68, 116.779, 103.939)
_WEIGHT = {"conv1_2": 1 / 2.6, "conv2_2": 1 / 4.8, "conv3_2": 1 / 3.7, "conv4_2": 1 / 5.6, "conv5_2": 10 / 1.5}
_BLOCKS = (2, 2, 4, 4, 2)
# Float32 gives features to within this share of their layer's root mean square at worst, and typically: up to 9e-6 and
# about 1e-6 were measured, with and without vector instructions.
_WORST_ROUNDING, _TYPICAL_ROUNDING = 1e-5, 2e-6


def perceptual_truth(pair: MaskedPair, convolutions: Convolutions) -> Truth:
    """The loss of the whole pictures, whatever the mask.

    Args:
        convolutions: kernel and bias of VGG19's first 14 convolutions, in order.

    The gradient jumps where a feature, or the difference of two, changes its sign. Those that lie within float32's
    rounding of that are found, and the gradient's uncertainty is how far it moves when they change sides: an estimate,
    which takes them to change together. In the value, the roundings of all other differences average out.
    """
    rendering, target, _ = exact(pair)
    mean = torch.tensor(_MEAN_RGB, dtype=torch.float64).view(1, 3, 1, 1)
    x, y = (255.0 * picture - mean for picture in (rendering, target))
    loss = (x - y).abs().mean()
    uncertain, value_uncertainty, activations = torch.zeros((), dtype=torch.float64), 0.0, []
    layer = iter(convolutions)
    for block, count in enumerate(_BLOCKS, start=1):
        if block > 1:
            x, y = (F.avg_pool2d(picture, 2) for picture in (x, y))
        for index in range(1, count + 1):
            kernel, bias = (weight.double() for weight in next(layer))
            before, after = (F.conv2d(picture, kernel, bias, padding=1) for picture in (x, y))
            size = float(before.detach().square().mean().sqrt())
            rounding = _WORST_ROUNDING * size
            x, y = before.relu(), after.relu()
            activations.append((before, x, before.detach().abs() < rounding))
            if weight := _WEIGHT.get(f"conv{block}_{index}"):
                distance = weight * (x - y).abs()
                loss = loss + distance.mean()
                near_kink = ((x - y).detach().abs() < rounding) & ((before > 0) | (after > 0))
                share = float(near_kink.double().mean()) + near_kink.numel() ** -0.5
                value_uncertainty += weight * _TYPICAL_ROUNDING * size * share / 255.0
                # From one side of the kink to the other, a slope changes by twice itself.
                uncertain = uncertain + 2.0 * weight * torch.where(near_kink, x, 0.0).sum() / x.numel()
    loss = loss / 255.0
    gradient, *slopes = torch.autograd.grad(loss, [rendering, *(x for _, x, _ in activations)], retain_graph=True)
    uncertain = uncertain / 255.0
    for (before, _, near_kink), slope in zip(activations, slopes, strict=True):
        uncertain = uncertain + (torch.where(near_kink, slope, 0.0) * before).sum()
    (moved,) = torch.autograd.grad(uncertain, rendering)
    return Truth(loss.item(), gradient, value_uncertainty=value_uncertainty, gradient_uncertainty=float(moved.norm()))
