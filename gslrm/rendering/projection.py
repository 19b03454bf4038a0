"""EWA projection: 3D Gaussians to 2D Gaussians in one camera's picture.

Zwicker et al., "EWA Volume Splatting" (2001), with the conventions of Kerbl et al., "3D Gaussian Splatting"
(2023): the projection is linearised at the centre, a low-pass of 0.3 px² is added to the 2D covariance, a
contribution under 1/255 is cut off, and the point of linearisation is held within 1.3 times the field of
view.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gslrm.clamping import clamp
from gslrm.rendering.scene import Splats

LOW_PASS = 0.3
"""Added to both variances of the 2D covariance, px²."""
ALPHA_CUTOFF = 1 / 255
"""A Gaussian gives nothing to a pixel where its alpha is at or under this."""
FRUSTUM_MARGIN = 0.3
"""How far past the picture's edge, in half pictures, the Jacobian's point may lie."""
SHAPE = 6
"""Rows of a footprint's table that give a Gaussian's shape; the rest are the features to composite."""
LARGEST_SPREAD = 1e6
"""A Gaussian wider than this, px, is past what float32 can place, and is not drawn."""


@dataclass(frozen=True)
class Footprint:
    """2D Gaussians: alpha(p) = opacity · exp(−½ (p − mean)ᵀ conic (p − mean)).

    table: one column a Gaussian: mean x, mean y (px), conic xx, xy, yy (px⁻²), log opacity; then what is
        composited: red, green, blue, 1, depth.
    reach: half-width and half-height (px) of the box outside which alpha is under the cutoff.
    visible: whether any pixel of the picture can see it.
    """

    table: Float[Tensor, "11 n"]
    reach: Float[Tensor, "2 n"]
    visible: Bool[Tensor, " n"]


def rotation(quaternion: Float[Tensor, "n 4"]) -> Float[Tensor, "3 3 n"]:
    """Rotation matrices of quaternions (w, x, y, z), which are normalised first."""
    unit = torch.nn.functional.normalize(quaternion, dim=-1).T
    w, xyz = unit[0], unit[1:]
    # Of each of x, y and z at once: those after it, in the circle x, y, z.
    after, before = xyz.roll(-1, 0), xyz.roll(1, 0)
    diagonal = 1 - 2 * (before * before + after * after)
    both, turned = after * before, w * xyz
    plus, minus = 2 * (both + turned), 2 * (both - turned)
    rows = [
        diagonal[0], minus[2], plus[1],
        plus[2], diagonal[1], minus[0],
        minus[1], plus[0], diagonal[2],
    ]  # fmt: skip
    return torch.stack(rows).view(3, 3, -1)


def project(
    splats: Splats,
    w2c: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "4"],
    height: int,
    width: int,
    near: float,
) -> Footprint:
    """The 2D Gaussians of `splats` in one picture of height × width px; differentiable.

    A Gaussian is invisible when its centre is nearer than `near`, when its box lies off the picture, when its
    opacity is under the cutoff, or when it or its projection is not a finite number. Columns of invisible
    Gaussians may hold anything: drop them before anything is differentiated.
    """
    fx, fy, cx, cy = intrinsics.unbind()
    turn, shift = w2c[:3, :3], w2c[:3, 3:]
    x, y, z = (turn @ splats.xyz.T + shift).unbind()
    slope_x, slope_y = x / z, y / z

    # The linearisation at a centre far outside the picture would blow the Gaussian up, so it is taken no
    # further out than the margin allows.
    margin_x, margin_y = FRUSTUM_MARGIN * width / (2 * fx), FRUSTUM_MARGIN * height / (2 * fy)
    held_x = clamp(slope_x, -cx / fx - margin_x, (width - cx) / fx + margin_x)
    held_y = clamp(slope_y, -cy / fy - margin_y, (height - cy) / fy + margin_y)

    # axes[i, j]: camera coordinate i of the Gaussian's principal axis j, as long as its standard deviation.
    axes = (turn @ rotation(splats.quaternion).flatten(1)).view(3, 3, -1) * splats.scale.T.contiguous()
    across = (fx / z) * (axes[0] - held_x * axes[2])
    down = (fy / z) * (axes[1] - held_y * axes[2])
    spread_x, spread_y = (across * across).sum(0), (down * down).sum(0)
    var_x, var_y, cov = spread_x + LOW_PASS, spread_y + LOW_PASS, (across * down).sum(0)
    # det(VVᵀ + εI) as a sum of positive terms (Cauchy–Binet): var_x·var_y − cov² cancels for thin Gaussians.
    area = torch.stack([across[i] * down[j] - across[j] * down[i] for i, j in ((1, 2), (2, 0), (0, 1))])
    det = (area * area).sum(0) + LOW_PASS * (spread_x + spread_y) + LOW_PASS**2

    opacity = splats.opacity[:, 0]
    mean_x, mean_y = fx * slope_x + cx, fy * slope_y + cy
    shape = [mean_x, mean_y, var_y / det, -cov / det, var_x / det, opacity.log()]
    table = torch.stack([*shape, *splats.colour.T, torch.ones_like(z), z])
    with torch.no_grad():
        # alpha > cutoff means a squared Mahalanobis distance under 2 ln(opacity / cutoff); the ellipse's box
        # is that times the variances. A little wider, so that rounding never loses a pixel.
        level = 2 * (opacity / ALPHA_CUTOFF).log().clamp(min=0)
        reach = (level * torch.stack([var_x, var_y])).sqrt() * 1.0001 + 1e-3
        visible = (
            (z > near)
            & (opacity > ALPHA_CUTOFF)
            & (mean_x + reach[0] > 0.5)
            & (mean_x - reach[0] < width - 0.5)
            & (mean_y + reach[1] > 0.5)
            & (mean_y - reach[1] < height - 0.5)
            & (torch.maximum(var_x, var_y) < LARGEST_SPREAD**2)
            & torch.isfinite(table.sum(0))
        )
    return Footprint(table, reach, visible)
