"""The made-up scene: the same every time, and drawn where geometry says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gslrm.data import synthetic_scene
from gslrm.data.cameras import Frame
from gslrm.data.synthetic import Ellipsoids, draw, look_at_origin


def test_the_same_seed_gives_the_same_scene() -> None:
    assert torch.equal(synthetic_scene(2, 16, seed=3).images, synthetic_scene(2, 16, seed=3).images)
    assert not torch.equal(synthetic_scene(2, 16, seed=3).images, synthetic_scene(2, 16, seed=4).images)


def test_making_a_scene_leaves_global_randomness_alone() -> None:
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    synthetic_scene(1, 8)
    assert (np.random.get_state()[1] == before).all()


def test_cameras_stand_on_the_circle_and_look_at_the_origin() -> None:
    c2w = synthetic_scene(5, 8).c2w
    torch.testing.assert_close(c2w[:, :3, 3].norm(dim=1), torch.full((5,), 2.7))
    torch.testing.assert_close(c2w[:, :3, 2], -c2w[:, :3, 3] / 2.7)  # z forward
    assert (c2w[:, 2, 1] < 0).all()  # y down
    torch.testing.assert_close(torch.linalg.det(c2w[:, :3, :3]), torch.ones(5))


def test_a_sphere_is_drawn_where_its_silhouette_is() -> None:
    # A sphere of radius r at distance d, on the optical axis, is a disc of radius f·r/√(d² − r²).
    radius, size, focal = 0.5, 128, 140.0
    sphere = Ellipsoids(np.zeros((1, 3)), np.full((1, 3), radius), np.eye(3)[None], np.array([[1.0, 0.5, 0.25]]))
    rgba = draw(sphere, Frame(size, focal, focal, 64.0, 64.0, look_at_origin(0.3), "a.png"))
    area = np.pi * (focal * radius) ** 2 / (2.7**2 - radius**2)
    assert (rgba[3] / 255).sum() == pytest.approx(area, rel=0.005)
    alpha, pixels = rgba[3] / rgba[3].sum(dtype=float), np.arange(size) + 0.5
    assert (alpha.sum(0) * pixels).sum() == pytest.approx(64.0, abs=0.01)
    assert (alpha.sum(1) * pixels).sum() == pytest.approx(64.0, abs=0.01)
    inside = rgba[:, 3 * size // 8 : size // 2, size // 2]
    np.testing.assert_allclose(inside[1] / inside[0], 0.5, atol=0.02)  # shading keeps the hue
    # Colours are straight: at the edge too they are no darker than the ambient light leaves them.
    assert rgba[0][rgba[3] > 0].min() >= 0.35 * 255 - 1


def test_nearer_ellipsoids_hide_those_behind() -> None:
    camera = -look_at_origin(0.0)[:3, :3].T @ look_at_origin(0.0)[:3, 3]
    towards = camera / np.linalg.norm(camera)
    colours = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    for order in ([0, 1], [1, 0]):
        blobs = Ellipsoids(
            np.stack([towards * 0.8, -towards * 0.8])[order],
            np.full((2, 3), 0.3),
            np.stack([np.eye(3)] * 2),
            colours[order],
        )
        centre = draw(blobs, Frame(9, 10.0, 10.0, 4.5, 4.5, look_at_origin(0.0), "a.png"))[:, 4, 4]
        assert centre[0] > 50
        assert centre[1] == 0


def test_every_view_sees_object_and_background() -> None:
    for seed in range(4):
        mask = synthetic_scene(4, 32, seed=seed).mask
        assert mask is not None
        covered = mask.mean(dim=(1, 2, 3))
        assert (covered > 0.05).all()
        assert (covered < 0.7).all()


def test_counts_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        synthetic_scene(0)
