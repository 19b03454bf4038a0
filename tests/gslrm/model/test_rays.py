"""Rays and posed pictures against the pinhole camera and Plücker's definitions."""

from __future__ import annotations

import pytest
import torch

from gslrm.data import synthetic_scene
from gslrm.model.rays import Rays, camera_rays, posed_images


@pytest.fixture
def cameras() -> tuple[torch.Tensor, torch.Tensor]:
    views = synthetic_scene(3, 8)
    intrinsics = torch.tensor([[9.0, 11.0, 3.5, 4.25], [8.0, 8.0, 4.0, 4.0], [20.0, 5.0, 0.0, 9.0]])
    return views.c2w.double(), intrinsics.double()


def test_points_on_a_ray_project_to_its_pixel_centre(cameras: tuple[torch.Tensor, torch.Tensor]) -> None:
    c2w, intrinsics = cameras
    rays = camera_rays(c2w, intrinsics, 6, 10)
    assert rays.direction.shape == (3, 3, 6, 10)
    points = rays.origin + 3.7 * rays.direction
    in_camera = torch.linalg.inv(c2w) @ torch.cat([points, torch.ones_like(points[:, :1])], 1).flatten(2)
    assert (in_camera[:, 2] > 0).all()
    pixels = in_camera[:, :2] / in_camera[:, 2:3] * intrinsics[:, :2, None] + intrinsics[:, 2:, None]
    v, u = torch.meshgrid(torch.arange(6) + 0.5, torch.arange(10) + 0.5, indexing="ij")
    expected = torch.stack([u, v]).double().flatten(1).expand(3, -1, -1)
    torch.testing.assert_close(pixels, expected, atol=1e-9, rtol=0)


def test_directions_are_unit_and_origins_the_cameras(cameras: tuple[torch.Tensor, torch.Tensor]) -> None:
    rays = camera_rays(*cameras, 4, 4)
    torch.testing.assert_close(rays.direction.norm(dim=1), torch.ones(3, 4, 4).double())
    assert torch.equal(rays.origin[:, :, 2, 1], cameras[0][:, :3, 3])


def test_batches_are_computed_alike(cameras: tuple[torch.Tensor, torch.Tensor]) -> None:
    c2w, intrinsics = cameras
    batched = camera_rays(c2w.expand(2, 3, 4, 4), intrinsics.expand(2, 3, 4), 4, 4)
    torch.testing.assert_close(
        batched.direction[1], camera_rays(c2w, intrinsics, 4, 4).direction, rtol=1e-13, atol=1e-13
    )


def test_autocast_leaves_rays_alone(cameras: tuple[torch.Tensor, torch.Tensor]) -> None:
    c2w, intrinsics = (x.float() for x in cameras)
    plain = camera_rays(c2w, intrinsics, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = camera_rays(c2w, intrinsics, 8, 8)
    assert torch.equal(plain.direction, cast.direction)


def _rays() -> Rays:
    views = synthetic_scene(2, 8)
    return camera_rays(views.c2w.double(), views.intrinsics.double(), 8, 8)


def test_custom_plucker_is_colour_direction_and_nearest_point() -> None:
    rays, images = _rays(), torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    posed = posed_images(images, rays, use_custom_plucker=True)
    rgb, direction, nearest = posed.split(3, dim=1)
    torch.testing.assert_close(rgb, images * 2 - 1)
    assert torch.equal(direction, rays.direction)
    # The nearest point is on the ray, and as seen from the origin at a right angle to it.
    torch.testing.assert_close((nearest * direction).sum(1), torch.zeros(2, 8, 8).double())
    on_ray = torch.cross(nearest - rays.origin, direction, dim=1)
    torch.testing.assert_close(on_ray, torch.zeros_like(on_ray))


def test_augmented_plucker_is_colour_moment_direction_and_nearest_point() -> None:
    rays, images = _rays(), torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    plain, custom = (posed_images(images, rays, use_custom_plucker=custom) for custom in (False, True))
    for custom_too in (False, True):
        posed = posed_images(images, rays, custom_too, use_aug_plucker=True)
        assert torch.equal(posed[:, :9], plain)
        assert torch.equal(posed[:, 9:], custom[:, 6:])


def test_plain_plucker_is_colour_moment_and_direction() -> None:
    rays, images = _rays(), torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    rgb, moment, direction = posed_images(images, rays, use_custom_plucker=False).split(3, dim=1)
    torch.testing.assert_close(rgb, images * 2 - 1)
    assert torch.equal(direction, rays.direction)
    o, d = rays.origin, rays.direction
    torch.testing.assert_close(moment[:, 0], o[:, 1] * d[:, 2] - o[:, 2] * d[:, 1])
    torch.testing.assert_close(moment[:, 2], o[:, 0] * d[:, 1] - o[:, 1] * d[:, 0])
