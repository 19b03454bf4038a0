"""Losses that are nearly what they are held to, each wrong in one way that someone could well write."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gslrm.model.utils_losses import MaskedSsimLoss, SsimLoss
from gslrm.model.vgg_weights import random_weights

_SSIM = MaskedSsimLoss()
_PLAIN_SSIM = SsimLoss()


def unclamped(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    value: Tensor = _SSIM(rendering, target, mask)
    return value


def clamped(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """No mutant: what ``clamped`` means, by the difference form."""
    value: Tensor = _SSIM(rendering, target, mask)
    return value.clamp(max=1.0)


def ms_ssim_of_four_scales(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    import pytorch_msssim

    images = (torch.where(mask > 0.5, image.float(), 0.5) for image in (rendering, target))
    return 1.0 - pytorch_msssim.ms_ssim(*images, data_range=1.0, weights=[0.0448, 0.2856, 0.3001, 0.3696])


def l1_of_all_pixels(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return (rendering.float() - target.float()).abs().mean()


def l2_summed_over_images(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    error = (rendering.float() - target.float()).square().where(mask > 0.5, 0.0)
    return error.sum() / (3 * (mask > 0.5).sum((1, 2, 3)).clamp(min=1)[0])


def nan_becomes_a_number(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    value: Tensor = _SSIM(rendering.nan_to_num(0.0), target, mask)
    return value


def zero_padded(rendering: Tensor, target: Tensor) -> Tensor:
    """No mutant: what ``zero-padded-ssim`` means, by the difference form."""
    value: Tensor = _PLAIN_SSIM(F.pad(rendering, (5,) * 4), F.pad(target, (5,) * 4))
    return value


def zero_padded_not_at_all(rendering: Tensor, target: Tensor) -> Tensor:
    value: Tensor = _PLAIN_SSIM(rendering, target)
    return value


def zero_padded_too_little(rendering: Tensor, target: Tensor) -> Tensor:
    value: Tensor = _PLAIN_SSIM(F.pad(rendering, (4,) * 4), F.pad(target, (4,) * 4))
    return value


def zero_padded_with_the_edge(rendering: Tensor, target: Tensor) -> Tensor:
    value: Tensor = _PLAIN_SSIM(*(F.pad(image, (5,) * 4, mode="replicate") for image in (rendering, target)))
    return value


def zero_padded_renormalised(rendering: Tensor, target: Tensor) -> Tensor:
    """Each window's weights sum to 1 over the pixels inside the image."""
    return _ssim_by_convolution(rendering.double(), target.double(), renormalised=True)


def zero_padded_by_convolution(rendering: Tensor, target: Tensor) -> Tensor:
    """As in the code of 3D Gaussian Splatting: its variances and 1 − SSIM cancel in float32."""
    return _ssim_by_convolution(rendering.float(), target.float(), renormalised=False)


def _ssim_by_convolution(x: Tensor, y: Tensor, *, renormalised: bool) -> Tensor:
    taps = torch.exp(-(torch.arange(-5.0, 6.0, dtype=x.dtype) ** 2) / 4.5)
    window = torch.outer(taps, taps)[None, None].expand(3, 1, 11, 11) / taps.sum() ** 2

    def mean(image: Tensor) -> Tensor:
        total = F.conv2d(image, window, padding=5, groups=3)
        return total / F.conv2d(torch.ones_like(image), window, padding=5, groups=3) if renormalised else total

    mx, my = mean(x), mean(y)
    variances, covariance = mean(x * x) - mx * mx + mean(y * y) - my * my, mean(x * y) - mx * my
    similarity = (2 * mx * my + 1e-4) * (2 * covariance + 9e-4) / ((mx * mx + my * my + 1e-4) * (variances + 9e-4))
    return 1 - similarity.mean()


def mse_in_autocast(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    difference = (rendering - target).reshape(1, -1)
    return torch.mm(difference, difference.T)[0, 0] / difference.numel()


def masked_mse_over_all_pixels(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return (rendering.float() - target.float()).square().where(mask > 0.5, 0.0).mean()


def masked_mse_from_a_half(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    shown = mask >= 0.5
    error = (rendering.float() - target.float()).square().where(shown, 0.0)
    return error.sum() / (3 * shown.sum().clamp(min=1))


def masked_mse_of_nothing(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    shown = mask > 0.5
    return (rendering.float() - target.float()).square().where(shown, 0.0).sum() / (3 * shown.sum())


def background_up_to_a_half(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _background(rendering, 1.0, mask <= 0.5)


def background_black(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _background(rendering, 0.0, mask < 0.5)


def background_from_target(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return _background(rendering, target.float(), mask < 0.5)


def background_of_everything(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return (rendering.float() - 1.0).square().mean()


def _background(rendering: Tensor, colour: Tensor | float, shown: Tensor) -> Tensor:
    error = (rendering.float() - colour).square().where(shown, 0.0)
    return error.sum() / (3 * shown.sum().clamp(min=1))


class Perceptual:
    """The perceptual loss written out. This one is right; the mutants below change one thing each."""

    scale, divisor, in_float32 = 255.0, 255.0, True

    def __init__(self) -> None:
        weights = random_weights(0)
        self.convolutions = tuple(zip(weights.kernels, weights.biases, strict=True))

    def pooled(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not self.in_float32):
            mean = torch.tensor([123.68, 116.779, 103.939]).view(1, 3, 1, 1)
            x, y = (image.float() * self.scale - mean for image in (x, y))
            total = (x - y).abs().mean()
            weights = {2: 1 / 2.6, 4: 1 / 4.8, 6: 1 / 3.7, 10: 1 / 5.6, 14: 10 / 1.5}
            for i, (kernel, bias) in enumerate(self.convolutions, start=1):
                x, y = (F.relu(F.conv2d(image, kernel, bias, padding=1)) for image in (x, y))
                if i in weights:
                    total = total + weights[i] * (x - y).abs().float().mean()
                if i in (2, 4, 8, 12):
                    x, y = self.pooled(x), self.pooled(y)
            return total / self.divisor


class PerceptualWithMaxima(Perceptual):
    def pooled(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 2)


class PerceptualUndivided(Perceptual):
    divisor = 1.0


class PerceptualOfUnitRange(Perceptual):
    scale = 1.0


class PerceptualInHalf(Perceptual):
    in_float32 = False


def _across(xyz: Tensor, origin: Tensor, direction: Tensor) -> Tensor:
    offset = xyz.float() - origin
    return offset - (offset * direction).sum(1, keepdim=True) * direction


def alignment_squared(xyz: Tensor, origin: Tensor, direction: Tensor, mask: Tensor) -> Tensor:
    return _across(xyz, origin, direction).square().sum(1).mean()


def alignment_by_square_root(xyz: Tensor, origin: Tensor, direction: Tensor, mask: Tensor) -> Tensor:
    """Its gradient is NaN for a point that lies on its ray."""
    return _across(xyz, origin, direction).square().sum(1).sqrt().mean()


def alignment_from_the_camera(xyz: Tensor, origin: Tensor, direction: Tensor, mask: Tensor) -> Tensor:
    return torch.linalg.vector_norm(xyz.float() - origin, dim=1).mean()


def alignment_over_the_foreground(xyz: Tensor, origin: Tensor, direction: Tensor, mask: Tensor) -> Tensor:
    distance = torch.linalg.vector_norm(_across(xyz, origin, direction), dim=1, keepdim=True)
    return (distance * mask).sum() / mask.sum().clamp(min=1)


def alignment_by_hard_mask(xyz: Tensor, origin: Tensor, direction: Tensor, mask: Tensor) -> Tensor:
    distance = torch.linalg.vector_norm(_across(xyz, origin, direction), dim=1, keepdim=True)
    return (distance * (mask > 0.5)).mean()


def alignment_through_the_projection(xyz: Tensor, origin: Tensor, direction: Tensor, mask: Tensor) -> Tensor:
    """No mutant: what is left beside the ray is orthogonal to it, so nothing passes through the projection's length."""
    return torch.linalg.vector_norm(_across(xyz, origin, direction), dim=1).mean()


def distance_through_the_target(xyz: Tensor, origin: Tensor, direction: Tensor, mask: Tensor) -> Tensor:
    """No mutant: the residual is a constant plus a multiple of the deviations from the mean, and moving a distance
    changes the normalised ones only orthogonally to both.
    """
    return _distance(xyz, origin, detached=False, correction=1)


def distance_without_gradient(xyz: Tensor, origin: Tensor, direction: Tensor, mask: Tensor) -> Tensor:
    return _distance(xyz.detach(), origin, detached=True, correction=1)


def distance_with_population_deviation(xyz: Tensor, origin: Tensor, direction: Tensor, mask: Tensor) -> Tensor:
    return _distance(xyz, origin, detached=True, correction=0)


def distance_normalised_over_the_batch(xyz: Tensor, origin: Tensor, direction: Tensor, mask: Tensor) -> Tensor:
    n, c, h, w = xyz.shape
    together = (part.transpose(0, 1).reshape(1, c, n * h, w) for part in (xyz, origin))
    return _distance(*together, detached=True, correction=1)


def _distance(xyz: Tensor, origin: Tensor, *, detached: bool, correction: int) -> Tensor:
    distance = torch.linalg.vector_norm(xyz.float() - origin, dim=1)
    fixed = distance.detach() if detached else distance
    spread, mean = torch.std_mean(fixed, (1, 2), correction=correction, keepdim=True)
    centre = torch.linalg.vector_norm(origin, dim=1).mean((1, 2), keepdim=True)
    return (distance - ((fixed - mean) / spread * 0.5 + centre)).square().mean()
