"""The hand-written backward pass against finite differences and against plain autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gslrm.rendering import Cameras, Splats, Tiling, render
from gslrm.rendering.projection import project
from tests.gslrm.rendering.splat_cases import asking_for_gradients, camera_at, cloud, one, splats

NAMES = ("xyz", "colour", "scale", "quaternion", "opacity")


def by_plain_autograd(scene: Splats, cameras: Cameras, height: int, width: int) -> Tensor:
    """Red, green, blue, alpha and depth of every view, every Gaussian in every pixel, differentiated by
    autograd."""
    pictures = []
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    for w2c, intrinsics in zip(cameras.world_to_camera(scene.dtype), cameras.intrinsics, strict=True):
        footprint = project(scene, w2c, intrinsics, height, width, near=0.01)
        seen = footprint.visible.nonzero().squeeze(1)
        table = footprint.table[:, seen[footprint.table[-1, seen].argsort(stable=True)]]
        mean_x, mean_y, xx, xy, yy, log_opacity = table[:6, :, None, None]
        dx, dy = x - mean_x, y - mean_y
        alpha = (log_opacity - 0.5 * (xx * dx * dx + 2 * xy * dx * dy + yy * dy * dy)).exp()
        alpha = torch.where(alpha > 1 / 255, alpha, 0.0).clamp(max=0.99)
        behind = (1 - alpha).cumprod(0)
        ahead = torch.cat([torch.ones_like(behind[:1]), behind[:-1]])
        weight = torch.where(behind > 1e-4, alpha * ahead, 0.0)
        pictures.append(torch.einsum("khw,ck->chw", weight, table[6:]))
    colour, alpha, depth = torch.stack(pictures).split([3, 1, 1], dim=1)
    return torch.cat([colour + (1 - alpha), alpha, depth / alpha.clamp(min=1e-8)], dim=1)


def by_render(scene: Splats, cameras: Cameras, height: int, width: int, tiling: Tiling | None = None) -> Tensor:
    seen = render(scene, cameras, height, width, backend="torch", tiling=tiling)
    return torch.cat([seen.image, seen.alpha, seen.depth], dim=1)


def gradients(picture: Tensor, scene: Splats) -> tuple[Tensor, ...]:
    rng = torch.Generator().manual_seed(1)
    weight = torch.randn(picture.shape, dtype=torch.float64, generator=rng).to(picture.dtype)
    return torch.autograd.grad((picture * weight).sum(), scene.fields())


def test_gradcheck_of_every_field() -> None:
    scene = splats(
        [[0.1, 0.05, 0.0], [-0.1, 0.1, 0.4], [0.0, -0.2, -0.3]],
        [[0.9, 0.1, 0.2], [0.3, 0.8, 0.1], [0.5, 0.5, 0.9]],
        [[0.5, 0.7, 0.6], [0.9, 0.5, 0.7], [0.6, 0.6, 0.8]],
        [[1, 0.2, -0.3, 0.1], [0.7, -0.5, 0.2, 0.4], [0.3, 0.1, 0.9, -0.2]],
        [0.6, 0.5, 0.7],
    )
    cameras = camera_at(focal=3.0, size=4, views=2)  # so wide that no pixel is near the cutoff, where there is a jump

    def picture(*fields: Tensor) -> Tensor:
        return by_render(Splats(*fields), cameras, 4, 4, Tiling(tile=2, cells=8))

    assert torch.autograd.gradcheck(picture, asking_for_gradients(scene).fields(), atol=1e-7)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("opaque", [0.3, 0.985])
def test_every_gradient_is_plain_autograds(seed: int, opaque: float) -> None:
    scene, cameras = asking_for_gradients(cloud(150, seed, opaque=opaque)), camera_at(distance=2.0, views=3)
    expected = gradients(by_plain_autograd(scene, cameras, 14, 16), scene)
    found = gradients(by_render(scene, cameras, 14, 16), scene)
    for name, a, b in zip(NAMES, found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")


def test_in_float32_it_is_within_1e4_of_float64() -> None:
    exact_scene, cameras = asking_for_gradients(cloud(300, 5)), camera_at(views=2)
    exact = gradients(by_plain_autograd(exact_scene, cameras, 16, 16), exact_scene)
    scene = asking_for_gradients(exact_scene.to(torch.float32))
    for name, a, b in zip(NAMES, gradients(by_render(scene, cameras, 16, 16), scene), exact, strict=True):
        assert a.dtype == torch.float32
        assert float((a - b).norm() / b.norm()) < 1e-4, name


def test_a_held_alpha_has_no_gradient_of_shape_or_opacity() -> None:
    scene = asking_for_gradients(one(opacity=[[0.9999]], scale=[[50.0] * 3]))
    xyz, colour, scale, quaternion, opacity = gradients(by_render(scene, camera_at(), 4, 4)[:, :3], scene)
    assert colour.abs().sum() > 0
    for gradient in (xyz, scale, quaternion, opacity):
        assert not gradient.any()


def test_what_is_hidden_or_unseen_has_exactly_no_gradient() -> None:
    wall = 5
    scene = splats(
        [[0, 0, 0.1 * i] for i in range(wall)] + [[0, 0, 2], [0, 0, -9], [40, 0, 0], [0, 0, -3]],
        [[0.5, 0.6, 0.7]] * (wall + 4),
        [[9.0] * 3] * wall + [[0.3] * 3] * 4,
        [[1, 0, 0, 0]] * (wall + 4),
        [0.95] * wall + [0.5] * 4,
    )
    scene = asking_for_gradients(scene.to(torch.float32))
    for name, gradient in zip(NAMES, gradients(by_render(scene, camera_at(), 16, 16), scene), strict=True):
        assert torch.isfinite(gradient).all(), name
        assert not gradient[wall:].any(), name


def test_the_gradient_goes_into_the_background_too() -> None:
    background = torch.tensor([0.2, 0.3, 0.4], dtype=torch.float64, requires_grad=True)
    seen = render(one(), camera_at(), 16, 16, background, backend="torch")
    seen.image.sum().backward()
    expected = (1 - seen.alpha).sum().expand(3)
    torch.testing.assert_close(background.grad, expected)
