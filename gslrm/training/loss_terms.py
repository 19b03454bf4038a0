"""The terms of GS-LRM's loss, one function each, on tensors with views folded into the batch.

A NaN in a term's input makes the term NaN: none raises, so that a training step can look and skip.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

POINTS_STD = 0.5
"""Spread, in world units, that :func:`points_distance` draws the points' distances to."""
_STD_OFFSET = 1e-8


def l2(rendering: Float[Tensor, "n 3 h w"], target: Float[Tensor, "n 3 h w"]) -> Float[Tensor, ""]:
    """Mean squared error."""
    return (rendering - target).square().mean()


def masked_l2(
    rendering: Float[Tensor, "n 3 h w"], target: Float[Tensor, "n 3 h w"], mask: Float[Tensor, "n 1 h w"]
) -> Float[Tensor, ""]:
    """Squared error summed over the foreground (mask > 0.5) of all images, over 3·max(1, foreground pixels)."""
    return _mean_square_where(mask > 0.5, rendering - target)


def background(
    rendering: Float[Tensor, "n 3 h w"], colour: Float[Tensor, "3"], mask: Float[Tensor, "n 1 h w"]
) -> Float[Tensor, ""]:
    """Mean squared distance to the background's colour where mask < 0.5; 0 where there is no background."""
    return _mean_square_where(mask < 0.5, rendering - colour.view(1, 3, 1, 1))


def pixel_alignment(
    xyz: Float[Tensor, "n 3 h w"],
    origin: Float[Tensor, "n 3 h w"],
    direction: Float[Tensor, "n 3 h w"],
    mask: Float[Tensor, "n 1 h w"] | None = None,
) -> Float[Tensor, ""]:
    """Mean distance of each pixel's point from its ray, in world units, times the mask where one is given.

    The distance along the ray is held fixed: the gradient pulls points onto their rays and not along them. Points where
    the mask is 0, NaN included, count neither in the value nor in the gradient.
    """
    from_origin = xyz - origin
    if mask is not None:
        from_origin = from_origin.where(mask > 0, 0.0)
    along = (from_origin * direction).sum(1, keepdim=True).detach()
    distance = torch.linalg.vector_norm(from_origin - along * direction, dim=1, keepdim=True)
    return (distance if mask is None else distance * mask).mean()


def points_distance(xyz: Float[Tensor, "n 3 h w"], origin: Float[Tensor, "n 3 h w"]) -> Float[Tensor, ""]:
    """Mean squared difference of the points' distances from their cameras to those distances normalised.

    The target of a distance d is (d − mean d) / (std d + 1e-8) · 0.5 + ‖origin‖, the mean and the standard deviation
    (Bessel's, over n − 1) those of the pixels of its view; no gradient goes through it.
    """
    distance = torch.linalg.vector_norm(xyz - origin, dim=1)
    fixed = distance.detach()
    spread, mean = torch.std_mean(fixed, (1, 2), correction=1, keepdim=True)
    target = (fixed - mean) / (spread + _STD_OFFSET) * POINTS_STD + torch.linalg.vector_norm(origin, dim=1)
    return (distance - target).square().mean()


def _mean_square_where(shown: Tensor, difference: Tensor) -> Tensor:
    # where(), not a product, and before the square: what lies outside, NaN included, must count neither in the value
    # nor in the gradient.
    return difference.where(shown, 0.0).square().sum() / (difference.shape[1] * shown.sum().clamp(min=1))
