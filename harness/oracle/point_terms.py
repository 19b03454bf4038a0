"""Float64 truths of losses on maps of points, in world units."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from harness.cases.loss_inputs import PointMap
from harness.oracle.truth import Truth, differentiated, exact

# A point's offset from its ray is a difference of numbers as large as its distance from the camera: in float32 the
# subtractions and products on the way there may each be off by half a unit in the last place, 2⁻²⁴ of that distance.
_ROUNDINGS = 8
_UNIT_ROUNDOFF = 2.0**-24
# The spread that normalised distances are drawn to, and what is added to the spread that they are divided by.
_SPREAD, _OFFSET = 0.5, 1e-8


def pixel_alignment_truth(points: PointMap) -> Truth:
    """The mean over pixels of each point's distance from its ray: ‖v − (v·d) d‖ with v = xyz − origin.

    The projection's length v·d is held fixed in the gradient. For a unit d that changes nothing, since v − (v·d) d is
    orthogonal to d: the gradient is the unit vector from ray to point, over the number of pixels.

    On the ray that vector has no direction, and float32 knows it only where the distance is well above its rounding:
    the truth's uncertainties say by how much.
    """
    return _alignment(points, masked=False)


def masked_pixel_alignment_truth(points: PointMap) -> Truth:
    """The same with each pixel's distance times its mask; the mean is over all pixels, hidden ones too."""
    return _alignment(points, masked=True)


def points_distance_truth(points: PointMap) -> Truth:
    """Mean squared difference of the points' distances from their cameras to those distances normalised, each map of
    the batch, which is one view, by itself: to a standard deviation (Bessel's, over n − 1) of 0.5 about each pixel's
    ‖origin‖. The normalised distances are held fixed in the gradient. In one view, which has one origin, that changes
    next to nothing (1e-8 over the spread): the differences are a constant plus a multiple of the deviations from the
    mean, and a normalised distance moves orthogonally to both.
    """

    def loss(xyz: Tensor, origin: Tensor, direction: Tensor, mask: Tensor) -> Tensor:
        distance = _length(xyz - origin)
        fixed = distance.detach()
        deviation = fixed - fixed.mean(dim=(1, 2), keepdim=True)
        spread = (deviation.pow(2).sum(dim=(1, 2), keepdim=True) / (fixed[0].numel() - 1)).sqrt()
        normalised = deviation * _SPREAD / (spread + _OFFSET) + _length(origin)
        return (distance - normalised).pow(2).mean()

    return differentiated(points, loss)


def _alignment(points: PointMap, masked: bool) -> Truth:
    def loss(xyz: Tensor, origin: Tensor, direction: Tensor, mask: Tensor) -> Tensor:
        return (_length(_across(xyz, origin, direction)) * (mask[:, 0] if masked else 1.0)).mean()

    truth = differentiated(points, loss)
    xyz, origin, direction, mask = (tensor.detach() for tensor in exact(points))
    rounding = _ROUNDINGS * _UNIT_ROUNDOFF * _length(xyz - origin)
    weight = (mask[:, 0] if masked else torch.ones_like(rounding)) / rounding.numel()
    # An offset of length r, off by up to e, turns by up to 2e/r, and no unit vector moves by more than 2.
    turned = (2.0 * rounding / _length(_across(xyz, origin, direction)).clamp(min=1e-300)).clamp(max=2.0)
    return Truth(
        truth.value,
        truth.gradient.nan_to_num(0.0),
        value_uncertainty=float((weight * rounding).sum()),
        gradient_uncertainty=float((weight * turned).norm()),
    )


def _across(
    xyz: Float[Tensor, "n 3 h w"], origin: Float[Tensor, "n 3 h w"], direction: Float[Tensor, "n 3 h w"]
) -> Float[Tensor, "n 3 h w"]:
    """The part of each point's offset from its camera that is left beside the ray."""
    offset = xyz - origin
    along = (offset * direction).sum(dim=1, keepdim=True).detach()
    return offset - along * direction


def _length(vectors: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n h w"]:
    return vectors.pow(2).sum(dim=1).sqrt()
