"""3D Gaussians, and how the decoders' raw numbers become them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gslrm.clamping import clamp

CHANNELS = (3, 3, 3, 4, 1)
"""Raw numbers of a Gaussian: xyz, colour (harmonics of degree 0), log-scale, quaternion, opacity."""
RAW = sum(CHANNELS)
SH0 = 0.28209479
"""The spherical harmonic of degree 0, 1 / (2 √π)."""
SCALE_SHIFT, LOG_SCALE_MAX = -2.3, -1.20
OPACITY_SHIFT = -2.0
SHORTEST_QUATERNION = 1e-12
"""A raw quaternion shorter than this has no direction: the squares of its numbers leave float32."""


@dataclass(frozen=True)
class Gaussians:
    """n 3D Gaussians of each of b scenes, in world space.

    xyz: centres, world units. colour: RGB, 0 or more, the same from all sides. scale: standard deviations
    along the own axes, in (0, e^-1.2], world units. quaternion: own axes to world, (w, x, y, z), of unit
    length. opacity: in (0, 1).
    """

    xyz: Float[Tensor, "b n 3"]
    colour: Float[Tensor, "b n 3"]
    scale: Float[Tensor, "b n 3"]
    quaternion: Float[Tensor, "b n 4"]
    opacity: Float[Tensor, "b n 1"]


def activate(raw: Float[Tensor, "b n 14"]) -> Gaussians:
    """Gaussians from raw numbers, ordered as `CHANNELS`; xyz stays raw.

    scale exp(min(x − 2.3, −1.2)); opacity sigmoid(x − 2); colour max(0, 0.5 + 0.28209479 x); the quaternion
    is normalised, and where it is as good as 0 it is the identity, with no gradient. In float32, or float64
    for float64, whatever autocast says.
    """
    # Autocast leaves these operations in the widened type.
    raw = raw.to(torch.promote_types(raw.dtype, torch.float32))
    xyz, sh, log_scale, quaternion, opacity = raw.split(CHANNELS, dim=-1)
    return Gaussians(
        xyz=xyz,
        colour=clamp(0.5 + SH0 * sh, low=0.0),
        scale=clamp(log_scale + SCALE_SHIFT, high=LOG_SCALE_MAX).exp(),
        quaternion=_unit(quaternion),
        opacity=(opacity + OPACITY_SHIFT).sigmoid(),
    )


def _unit(quaternion: Float[Tensor, "b n 4"]) -> Float[Tensor, "b n 4"]:
    # A NaN is not below anything, so it stays a NaN.
    zero = quaternion.detach().norm(dim=-1, keepdim=True) < SHORTEST_QUATERNION
    identity = quaternion.new_tensor([1.0, 0.0, 0.0, 0.0])
    safe = torch.where(zero, identity, quaternion)
    return safe / safe.norm(dim=-1, keepdim=True)
