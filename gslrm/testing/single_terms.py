"""Each term of the loss by itself, through :class:`LossComputer` with every other weight at 0.

For whoever wants to test, compare or record one term: a class for each, constructed without arguments, that is called
with plain batches and returns the term as training has it: clamped, in float32 (float64 for float64 batches), with
autocast off.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gslrm.config import LossesConfig
from gslrm.model.gaussians import Gaussians
from gslrm.model.gslrm import Reconstruction
from gslrm.model.image_checks import check_mask
from gslrm.model.perceptual import PerceptualLoss
from gslrm.model.rays import Rays
from gslrm.model.vgg_weights import random_weights
from gslrm.training.loss_computer import LossComputer

_SILENT = {"l2_loss_weight": 0.0}


class _ImageTerm(nn.Module):
    def __init__(self, perceptual: nn.Module | None = None, **settings: Any) -> None:
        super().__init__()
        self.computer = LossComputer(LossesConfig(**{**_SILENT, **settings}), perceptual=perceptual)

    def forward(
        self, rendering: Float[Tensor, "n 3 h w"], target: Float[Tensor, "n 3 h w"], mask: Float[Tensor, "n 1 h w"]
    ) -> Float[Tensor, ""]:
        """The term of images in [0, 1], each a scene of one view, its mask the target's fourth channel.

        Raises:
            TypeError: images that aren't floating point.
            ValueError: shapes that don't fit, or a side that is too small for the term.
        """
        check_mask(mask, target)
        with_mask = torch.cat([target, mask.to(target.dtype)], dim=1)
        total: Tensor = self.computer(rendering.unsqueeze(1), with_mask.unsqueeze(1)).total
        return total


class L2Term(_ImageTerm):
    """Mean squared error, whatever the mask."""

    def __init__(self) -> None:
        super().__init__(l2_loss_weight=1.0)


class MaskedL2Term(_ImageTerm):
    """Squared error over the foreground."""

    def __init__(self) -> None:
        super().__init__(l2_loss_weight=1.0, masked_l2_loss=True)


class SsimTerm(_ImageTerm):
    """1 − SSIM, whatever the mask."""

    def __init__(self) -> None:
        super().__init__(ssim_loss_weight=1.0)


class MaskedSsimTerm(_ImageTerm):
    """1 − SSIM with neutral grey where the mask hides."""

    def __init__(self) -> None:
        super().__init__(ssim_loss_weight=1.0, masked_ssim_loss=True)


class BackgroundTerm(_ImageTerm):
    """Squared distance to white over the background."""

    def __init__(self) -> None:
        super().__init__(background_loss_weight=1.0)


class PerceptualTerm(_ImageTerm):
    """Distances of VGG19's features, with random weights from a fixed seed: nothing is read or fetched.

    convolutions: kernel and bias of each, for an independent evaluation.
    """

    def __init__(self) -> None:
        weights = random_weights(0)
        super().__init__(PerceptualLoss(weights), perceptual_loss_weight=1.0)
        self.convolutions = tuple(zip(weights.kernels, weights.biases, strict=True))


class LpipsTerm(_ImageTerm):
    """LPIPS. Raises RuntimeError where the `lpips` package, or torchvision, is absent."""

    def __init__(self) -> None:
        super().__init__(lpips_loss_weight=1.0)


class _PointTerm(nn.Module):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.computer = LossComputer(LossesConfig(**{**_SILENT, **settings}))

    def forward(
        self,
        xyz: Float[Tensor, "n 3 h w"],
        origin: Float[Tensor, "n 3 h w"],
        direction: Float[Tensor, "n 3 h w"],
        mask: Float[Tensor, "n 1 h w"],
    ) -> Float[Tensor, ""]:
        """The term of points and their rays, in world units, each map a scene of one view.

        Raises:
            TypeError: points that aren't floating point.
            ValueError: shapes that don't fit.
        """
        nothing = Gaussians(*(xyz.new_zeros(len(xyz), 0, channels) for channels in (3, 3, 3, 4, 1)))
        rays = Rays(origin.unsqueeze(1), direction.unsqueeze(1))
        picture = torch.zeros(1, 1, 3, 1, 1, device=xyz.device)
        total: Tensor = self.computer(
            picture, picture, Reconstruction(nothing, xyz.unsqueeze(1), rays), input_mask=mask.unsqueeze(1)
        ).total
        return total


class PixelAlignmentTerm(_PointTerm):
    """Mean distance of points from their rays, whatever the mask."""

    def __init__(self) -> None:
        super().__init__(pixelalign_loss_weight=1.0)


class MaskedPixelAlignmentTerm(_PointTerm):
    """Mean distance of points from their rays, times the mask."""

    def __init__(self) -> None:
        super().__init__(pixelalign_loss_weight=1.0, masked_pixelalign_loss=True)


class PointsDistanceTerm(_PointTerm):
    """Mean squared difference of points' distances to themselves normalised, map by map."""

    def __init__(self) -> None:
        super().__init__(pointsdist_loss_weight=1.0)
