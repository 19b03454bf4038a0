"""1 − SSIM of grey-masked images as careful people write it, in six ways; each leaves autocast for float64."""

from __future__ import annotations

import pytorch_msssim
import torch
import torch.nn.functional as F
from torch import Tensor

_C1, _C2 = 0.01**2, 0.03**2


def _checked(rendering: Tensor, target: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64, with grey where the mask hides."""
    shown = mask > 0.5
    return tuple(  # type: ignore[return-value]
        torch.where(shown, image.double(), torch.full_like(image, 0.5, dtype=torch.float64))
        for image in (rendering, target)
    )


def _taps() -> Tensor:
    taps = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / 4.5)
    return taps / taps.sum()


def _combined(a: Tensor, b: Tensor, s_a: Tensor, s_b: Tensor, s_ab: Tensor) -> Tensor:
    return (2 * a * b + _C1) * (2 * s_ab + _C2) / ((a * a + b * b + _C1) * (s_a + s_b + _C2))


def textbook(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Means of squares less squared means, which float64 can afford."""
    with torch.autocast(rendering.device.type, enabled=False):
        x, y = _checked(rendering, target, mask)
        window = torch.outer(_taps(), _taps()).to(x.device).expand(3, 1, 11, 11)

        def mean(image: Tensor) -> Tensor:
            return F.conv2d(image, window, groups=3)

        a, b = mean(x), mean(y)
        return 1.0 - _combined(a, b, mean(x * x) - a * a, mean(y * y) - b * b, mean(x * y) - a * b).mean()


def library(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """pytorch-msssim, handed float64."""
    with torch.autocast(rendering.device.type, enabled=False):
        x, y = _checked(rendering, target, mask)
        value: Tensor = 1.0 - pytorch_msssim.ssim(x, y, data_range=1.0)
        return value


def separable(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Filtered along the rows and then along the columns."""
    with torch.autocast(rendering.device.type, enabled=False):
        x, y = _checked(rendering, target, mask)
        taps = _taps().to(x.device).expand(3, 1, 1, 11)

        def mean(image: Tensor) -> Tensor:
            return F.conv2d(F.conv2d(image, taps, groups=3), taps.transpose(2, 3), groups=3)

        a, b = mean(x), mean(y)
        return 1.0 - _combined(a, b, mean(x * x) - a * a, mean(y * y) - b * b, mean(x * y) - a * b).mean()


def difference(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """1 − l and 1 − cs from moments of the difference."""
    with torch.autocast(rendering.device.type, enabled=False):
        x, y = _checked(rendering, target, mask)
        window = torch.outer(_taps(), _taps()).to(x.device).expand(3, 1, 11, 11)

        def mean(image: Tensor) -> Tensor:
            return F.conv2d(image, window, groups=3)

        d = x - y
        a, b, c = mean(x), mean(y), mean(d)
        l = c * c / (a * a + b * b + _C1)  # noqa: E741
        cs = (mean(d * d) - c * c) / (mean(x * x) - a * a + mean(y * y) - b * b + _C2)
        return (l + cs - l * cs).mean()


def unfolded(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Window by window, centred."""
    with torch.autocast(rendering.device.type, enabled=False):
        x, y = _checked(rendering, target, mask)
        weights = torch.outer(_taps(), _taps()).reshape(1, 121, 1).to(x.device)
        u, v = (F.unfold(image.reshape(-1, 1, *image.shape[2:]), 11) for image in (x, y))
        a, b = ((weights * part).sum(1, keepdim=True) for part in (u, v))
        u, v = u - a, v - b
        s_a, s_b, s_ab = ((weights * part).sum(1, keepdim=True) for part in (u * u, v * v, u * v))
        return 1.0 - _combined(a, b, s_a, s_b, s_ab).mean()


def image_by_image(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """A loop over the batch."""
    losses = [textbook(rendering[i : i + 1], target[i : i + 1], mask[i : i + 1]) for i in range(len(rendering))]
    return torch.stack(losses).mean()
