"""Scenes of 3D Gaussians for a renderer, from a descriptor, by +, −, ×, ÷ alone, so the same everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from harness.cases.random_numbers import RandomNumbers

_GAUSSIANS, _WEIGHTS = range(2)
# Cosine and sine of each camera's turn about the vertical axis: rational, so no machine's cos() shows.
_TURNS = ((1.0, 0.0), (0.6, 0.8), (-0.28, 0.96), (0.0, -1.0))
MOST_VIEWS = len(_TURNS)


@dataclass(frozen=True)
class SceneCase:
    """Gaussians in a cube about the origin, seen by cameras at distance 3 on a circle.

    Attributes:
        gaussians: how many; 0 leaves the background alone.
        views: pictures, at most :data:`MOST_VIEWS`.
        size: their side in pixels.
        seed: of the Gaussians.
    """

    gaussians: int = 24
    views: int = 1
    size: int = 16
    seed: int = 0

    @property
    def elements(self) -> int:
        """Numbers that the truth keeps: of each Gaussian in each pixel."""
        return max(1, self.gaussians) * self.views * self.size**2


@dataclass(frozen=True)
class Scene:
    """A scene as plain tensors, all float64 on the CPU.

    Attributes:
        xyz (n, 3): centres, world units.  colour (n, 3): RGB in [0, 1].  scale (n, 3): standard deviations.
        quaternion (n, 4): (w, x, y, z), not normalised.  opacity (n, 1): in (0, 1).
        c2w (v, 4, 4): camera to world, x right, y down, z forward.  intrinsics (v, 4): fx, fy, cx, cy in pixels.
        size: the pictures' side in pixels.
    """

    xyz: Float[Tensor, "n 3"]
    colour: Float[Tensor, "n 3"]
    scale: Float[Tensor, "n 3"]
    quaternion: Float[Tensor, "n 4"]
    opacity: Float[Tensor, "n 1"]
    c2w: Float[Tensor, "v 4 4"]
    intrinsics: Float[Tensor, "v 4"]
    size: int

    def fields(self) -> dict[str, Tensor]:
        """The Gaussians' five fields by name."""
        return {name: getattr(self, name) for name in ("xyz", "colour", "scale", "quaternion", "opacity")}


def build_scene(case: SceneCase) -> Scene:
    """The case's scene; the same bits for the same case on every machine."""
    n = case.gaussians
    numbers = RandomNumbers(case.seed, _GAUSSIANS).uniform(n, 14)
    intrinsics = np.array([case.size, case.size, case.size / 2, case.size / 2], dtype=np.float64)
    return Scene(
        xyz=torch.from_numpy(1.2 * numbers[:, :3] - 0.6),
        colour=torch.from_numpy(numbers[:, 3:6].copy()),
        scale=torch.from_numpy(0.05 + 0.25 * numbers[:, 6:9]),
        quaternion=torch.from_numpy(numbers[:, 9:13] - 0.5),
        opacity=torch.from_numpy(0.1 + 0.6 * numbers[:, 13:14]),
        c2w=torch.from_numpy(np.stack([_camera(*turn) for turn in _TURNS[: case.views]])),
        intrinsics=torch.from_numpy(np.tile(intrinsics, (case.views, 1))),
        size=case.size,
    )


def picture_weights(case: SceneCase, channels: int) -> Float[Tensor, "v c h w"]:
    """What each pixel is multiplied by before the sum whose gradient is taken; in [0, 1), float64."""
    numbers = RandomNumbers(case.seed, _WEIGHTS, channels)
    return torch.from_numpy(numbers.uniform(case.views, channels, case.size, case.size))


def _camera(cosine: float, sine: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = [[cosine, 0.0, -sine], [0.0, 1.0, 0.0], [sine, 0.0, cosine]]
    matrix[:3, 3] = [3.0 * sine, 0.0, -3.0 * cosine]
    return matrix
