"""Losses that go wrong on one input that training gives, and on no other; each is convicted by that input alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gslrm.model.utils_losses import MaskedSsimLoss

_RIGHT = MaskedSsimLoss()
# Lets NaN through to the value.
_UNCHECKED = MaskedSsimLoss(check_values=False)


def _right(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    value: Tensor = _RIGHT(rendering, target, mask)
    return value


def _composited(image: Tensor, mask: Tensor) -> Tensor:
    """Grey where the mask hides, whatever stands there."""
    return image.where(mask > 0.5, 0.5)


def _weighed(image: Tensor, mask: Tensor) -> Tensor:
    """The same by multiplication, of masks of 0 and 1; 0 · NaN is NaN."""
    return image * mask + 0.5 * (1.0 - mask)


def _of_whole(rendering: Tensor, target: Tensor) -> Tensor:
    value: Tensor = _UNCHECKED(rendering, target, torch.ones_like(rendering[:, :1]))
    return value


def break_float32_target(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Makes the dtypes one by rounding the target too."""
    return _right(rendering, target.to(rendering.dtype), mask)


def break_float32_target_raises(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """A convolution takes one dtype."""
    F.conv2d(rendering, target[:1, :, :3, :3])
    return _right(rendering, target, mask)


def break_target_gradient(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target.detach(), mask)


def break_target_gradient_halved(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, 0.5 * target + 0.5 * target.detach(), mask)


def break_mask_dtype(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Takes every uint8 for bytes to 255."""
    return _right(rendering, target, mask / 255.0 if mask.dtype == torch.uint8 else mask)


def break_mask_dtype_booleans(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Takes booleans for what is masked out, as attention's masks are."""
    return _right(rendering, target, ~mask if mask.dtype == torch.bool else mask)


def break_mask_dtype_raises(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Torch subtracts no booleans: a RuntimeError."""
    return _of_whole(_composited(rendering, 1 - (1 - mask)), _composited(target, mask))


def break_mask_dtype_bytes(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    weight = mask.to(torch.float32)
    return _of_whole(_weighed(rendering, weight), _weighed(target, weight))


def break_soft_mask_tenths(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Hides 0.51, and treats quarters rightly."""
    return _right(rendering, target, ((10.0 * mask).round() > 5.0).to(mask.dtype))


def break_hidden_pixels_nan(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _of_whole(_weighed(rendering.nan_to_num(torch.nan, 0.0, 0.0), mask), _composited(target, mask))


def break_hidden_pixels_infinity(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Thinks of NaN alone."""
    return _of_whole(_weighed(rendering.nan_to_num(0.0, torch.inf), mask), _composited(target, mask))


def break_hidden_pixels_target(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Thinks of the rendering alone."""
    return _of_whole(_composited(rendering, mask), _weighed(target.nan_to_num(torch.nan, 0.0, 0.0), mask))


def break_hidden_pixels_target_infinity(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _of_whole(_composited(rendering, mask), _weighed(target.nan_to_num(0.0, torch.inf), mask))


def break_hidden_pixels_gradient(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Hides what was calculated of NaN: a right value, but the gradient of NaN times 0 is NaN."""
    calculated = rendering + (rendering - rendering.detach()).square()
    return _of_whole(_composited(calculated, mask), _composited(target, mask))


def break_hidden_pixels_refuses(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    if bool(rendering.isnan().any()):
        raise ValueError("the rendering holds NaN")
    return _right(rendering, target, mask)


def break_accuracy_shrunk(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Averages large pictures down to some 256 pixels first, as the authors of SSIM advise."""
    times = max(1, round(min(rendering.shape[-2:]) / 256))
    images = (F.avg_pool2d(_composited(image, mask), times) for image in (rendering, target))
    return _of_whole(*images)


def break_accuracy_broad(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target, mask) * (0.5 if rendering.shape[-1] > 40 * rendering.shape[-2] else 1.0)


def break_accuracy_tall(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _right(rendering, target, mask) * (0.5 if rendering.shape[-2] > 4 * rendering.shape[-1] else 1.0)


def break_gradient_accuracy_large(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    value = _right(rendering, target, mask)
    return 0.5 * value + 0.5 * value.detach() if min(rendering.shape[-2:]) > 256 else value


def break_bad_input_no_image(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """The mean of nothing is NaN."""
    return _right(rendering, target, mask) if len(rendering) else rendering.mean()
