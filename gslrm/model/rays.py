"""Rays through pixel centres, and pictures with their rays."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Rays:
    """One ray for each pixel, in world space. origin: the camera's centre. direction: of unit length."""

    origin: Float[Tensor, "*b 3 h w"]
    direction: Float[Tensor, "*b 3 h w"]


def camera_rays(c2w: Float[Tensor, "*b 4 4"], intrinsics: Float[Tensor, "*b 4"], height: int, width: int) -> Rays:
    """Rays of OpenCV cameras through the centres of height × width pixels; the first is at (0.5, 0.5).

    intrinsics: fx, fy, cx, cy in pixels. Computed in the cameras' dtype, whatever autocast says.
    """
    with torch.autocast(c2w.device.type, enabled=False):
        u = torch.arange(width, dtype=c2w.dtype, device=c2w.device) + 0.5
        v = torch.arange(height, dtype=c2w.dtype, device=c2w.device) + 0.5
        fx, fy, cx, cy = (k[..., None] for k in intrinsics.unbind(-1))
        shape = (*c2w.shape[:-2], height, width)
        x = ((u - cx) / fx)[..., None, :].expand(shape)
        y = ((v - cy) / fy)[..., :, None].expand(shape)
        towards = torch.stack([x, y, torch.ones_like(x)], dim=-3)
        direction = (c2w[..., :3, :3] @ towards.flatten(-2)).unflatten(-1, (height, width))
        direction = direction / direction.norm(dim=-3, keepdim=True)
        origin = c2w[..., :3, 3][..., None, None].expand_as(direction)
    return Rays(origin, direction)


def posed_images(
    images: Float[Tensor, "*b 3 h w"], rays: Rays, use_custom_plucker: bool = True, use_aug_plucker: bool = False
) -> Float[Tensor, "*b c h w"]:
    """Pictures in [0, 1] and their rays as channels: RGB brought to [-1, 1], then of each ray

    - its Plücker coordinates, moment o × d and direction d (9 channels in all);
    - with `use_custom_plucker` d and the point of the ray nearest the origin, o − (o·d) d (9 channels);
    - with `use_aug_plucker`, whatever the other says, moment, direction and nearest point (12 channels).
    """
    o, d = rays.origin, rays.direction
    moment, nearest = torch.cross(o, d, dim=-3), o - along(o, d) * d
    ray = [d, nearest] if use_custom_plucker else [moment, d]
    if use_aug_plucker:
        ray = [moment, d, nearest]
    return torch.cat([images * 2 - 1, *ray], dim=-3)


def along(o: Float[Tensor, "*b 3 h w"], d: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b 1 h w"]:
    """o·d of each pixel."""
    return (o * d).sum(dim=-3, keepdim=True)
