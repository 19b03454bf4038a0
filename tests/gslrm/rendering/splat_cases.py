"""Scenes for the renderer's tests, and the truth about them in numpy float64, one pixel and one Gaussian at a
time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from gslrm.rendering import Cameras, Splats


def camera_at(distance: float = 3.0, focal: float = 20.0, size: int = 16, views: int = 1) -> Cameras:
    """Cameras on a circle of radius `distance` around the origin, looking at it; the first from −z."""
    matrices = []
    for view in range(views):
        angle = 2 * np.pi * view / max(views, 1)
        c, s = np.cos(angle), np.sin(angle)
        turn = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = turn, turn @ [0, 0, -distance]
        matrices.append(matrix)
    c2w = torch.from_numpy(np.stack(matrices)) if views else torch.zeros(0, 4, 4, dtype=torch.float64)
    intrinsics = torch.tensor([focal, focal, size / 2, size / 2], dtype=torch.float64).expand(views, 4)
    return Cameras(c2w, intrinsics.contiguous())


def splats(
    xyz: list[list[float]],
    colour: list[list[float]],
    scale: list[list[float]],
    quaternion: list[list[float]],
    opacity: list[float],
) -> Splats:
    fields = (xyz, colour, scale, quaternion, [[o] for o in opacity])
    return Splats(*(torch.tensor(field, dtype=torch.float64) for field in fields))


def one(**changes: list[list[float]]) -> Splats:
    """A red isotropic Gaussian at the origin, half opaque, with some fields replaced."""
    base = splats([[0, 0, 0]], [[1, 0, 0]], [[0.2] * 3], [[1, 0, 0, 0]], [0.5])
    return replace(base, **{name: torch.tensor(value, dtype=torch.float64) for name, value in changes.items()})


def cloud(n: int, seed: int, dtype: torch.dtype = torch.float64, opaque: float = 0.9) -> Splats:
    """n Gaussians of all shapes in a ball around the origin."""
    rng = torch.Generator().manual_seed(seed)
    fields = (
        torch.randn(n, 3, generator=rng, dtype=torch.float64) * 0.5,
        torch.rand(n, 3, generator=rng, dtype=torch.float64),
        torch.rand(n, 3, generator=rng, dtype=torch.float64) * 0.3 + 0.02,
        torch.randn(n, 4, generator=rng, dtype=torch.float64),
        torch.rand(n, 1, generator=rng, dtype=torch.float64) * opaque + 0.01,
    )
    return Splats(*(field.to(dtype) for field in fields))


def asking_for_gradients(scene: Splats) -> Splats:
    return Splats(*(field.detach().clone().requires_grad_() for field in scene.fields()))


def truth(
    scene: Splats,
    cameras: Cameras,
    height: int,
    width: int,
    background: tuple[float, float, float] = (1, 1, 1),
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images (v, 3, h, w), alphas and depths (v, 1, h, w), by the textbook and slowly."""
    xyz, colour, scale, quaternion, opacity = (field.detach().double().numpy() for field in scene.fields())
    images, alphas, depths = [], [], []
    for c2w, (fx, fy, cx, cy) in zip(cameras.c2w.numpy(), cameras.intrinsics.numpy(), strict=True):
        w2c = np.linalg.inv(c2w)
        flat = []
        for i in range(len(xyz)):
            x, y, z = w2c[:3, :3] @ xyz[i] + w2c[:3, 3]
            if z <= 0.01:
                continue
            w, a, b, c = quaternion[i] / np.linalg.norm(quaternion[i])
            skew = np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])
            turn = np.eye(3) + 2 * w * skew + 2 * skew @ skew  # Rodrigues' formula in quaternion terms
            cov = turn @ np.diag(scale[i] ** 2) @ turn.T
            px = np.clip(x / z, -cx / fx - 0.15 * width / fx, (width - cx) / fx + 0.15 * width / fx) * z
            py = np.clip(y / z, -cy / fy - 0.15 * height / fy, (height - cy) / fy + 0.15 * height / fy) * z
            jacobian = np.array([[fx / z, 0, -fx * px / z**2], [0, fy / z, -fy * py / z**2]])
            linear = jacobian @ w2c[:3, :3]
            cov2 = linear @ cov @ linear.T + 0.3 * np.eye(2)
            flat.append(
                (
                    z,
                    np.array([fx * x / z + cx, fy * y / z + cy]),
                    np.linalg.inv(cov2),
                    opacity[i, 0],
                    colour[i],
                )
            )
        flat.sort(key=lambda gaussian: gaussian[0])
        image, alpha_map, depth = (
            np.zeros((3, height, width)),
            np.zeros((1, height, width)),
            np.zeros((1, height, width)),
        )
        for row in range(height):
            for column in range(width):
                light = 1.0
                for z, mean, conic, top, rgb in flat:
                    d = np.array([column + 0.5, row + 0.5]) - mean
                    alpha = min(0.99, top * np.exp(-0.5 * d @ conic @ d))
                    if alpha <= 1 / 255:
                        continue
                    if light * (1 - alpha) <= 1e-4:
                        break
                    image[:, row, column] += light * alpha * rgb
                    alpha_map[0, row, column] += light * alpha
                    depth[0, row, column] += light * alpha * z
                    light *= 1 - alpha
        images.append(image + (1 - alpha_map) * np.array(background)[:, None, None])
        alphas.append(alpha_map)
        depths.append(depth / np.maximum(alpha_map, 1e-8))
    return np.stack(images), np.stack(alphas), np.stack(depths)
