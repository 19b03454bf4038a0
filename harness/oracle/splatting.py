"""The truth about a scene of 3D Gaussians: EWA splatting in float64, one Gaussian at a time over whole pictures.

Zwicker et al. 2001 with the conventions of 3D Gaussian Splatting (Kerbl et al. 2023): a low-pass of 0.3 px², front to
back by the centre's depth, alpha held at 0.99 and cut off at 1/255, a pixel finished before its transmittance would
reach 1e-4.  Shares no code with any subject.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from harness.cases.scenes import Scene

WHITE = (1.0, 1.0, 1.0)
_LOW_PASS, _NEAR, _MOST_ALPHA, _LEAST_ALPHA, _LEAST_LIGHT = 0.3, 0.01, 0.99, 1 / 255, 1e-4


@dataclass(frozen=True)
class TruePictures:
    """Float64 pictures: image (v, 3, h, w), alpha and depth (v, 1, h, w); differentiable by the scene's fields."""

    image: Float[Tensor, "v 3 h w"]
    alpha: Float[Tensor, "v 1 h w"]
    depth: Float[Tensor, "v 1 h w"]


def splatting_truth(scene: Scene, background: tuple[float, float, float] = WHITE) -> TruePictures:
    """The scene's pictures over ``background``; depth is the expected one over what is covered, 0 where nothing is."""
    views = [_view(scene, index) for index in range(len(scene.c2w))]
    colour, alpha, depth = (torch.stack(parts) for parts in zip(*views, strict=True))
    behind = torch.tensor(background, dtype=torch.float64).view(3, 1, 1)
    return TruePictures(colour + (1.0 - alpha) * behind, alpha, depth / alpha.clamp(min=1e-8))


def _view(scene: Scene, index: int) -> tuple[Tensor, Tensor, Tensor]:
    to_camera = torch.linalg.inv(scene.c2w[index])
    fx, fy, cx, cy = scene.intrinsics[index].tolist()
    centres = scene.xyz @ to_camera[:3, :3].T + to_camera[:3, 3]
    steps = torch.arange(scene.size, dtype=torch.float64) + 0.5
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    light = torch.ones(1, scene.size, scene.size, dtype=torch.float64)
    finished = torch.zeros_like(light, dtype=torch.bool)
    colour, covered, depth = torch.zeros(3, *light.shape[1:]).double(), torch.zeros_like(light), torch.zeros_like(light)
    for i in torch.argsort(centres[:, 2].detach(), stable=True).tolist():
        x, y, z = centres[i]
        if z <= _NEAR:
            continue
        zero = torch.zeros_like(z)
        jacobian = torch.stack(
            [torch.stack([fx / z, zero, -fx * x / z**2]), torch.stack([zero, fy / z, -fy * y / z**2])]
        )
        axes = jacobian @ to_camera[:3, :3] @ _rotation(scene.quaternion[i]) @ torch.diag(scene.scale[i])
        conic = torch.linalg.inv(axes @ axes.T + _LOW_PASS * torch.eye(2, dtype=torch.float64))
        offset = torch.stack([columns - (fx * x / z + cx), rows - (fy * y / z + cy)])
        power = torch.einsum("ahw,ab,bhw->hw", offset, conic, offset)
        alpha = (scene.opacity[i] * torch.exp(-0.5 * power)).clamp(max=_MOST_ALPHA)[None]
        drawn = (alpha > _LEAST_ALPHA) & ~finished
        finished = finished | (drawn & (light * (1.0 - alpha) <= _LEAST_LIGHT))
        share = torch.where(drawn & ~finished, light * alpha, 0.0)
        colour = colour + share * scene.colour[i].view(3, 1, 1)
        covered, depth, light = covered + share, depth + share * z, light - share
    return colour, covered, depth


def _rotation(quaternion: Float[Tensor, "4"]) -> Float[Tensor, "3 3"]:
    w, x, y, z = quaternion / torch.linalg.vector_norm(quaternion)
    return torch.stack(
        [
            torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)]),
            torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)]),
            torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]),
        ]
    )
