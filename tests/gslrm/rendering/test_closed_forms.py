"""The pictures against closed forms and a slow numpy renderer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gslrm.rendering import Cameras, Rendering, Splats, render
from tests.gslrm.rendering.splat_cases import camera_at, cloud, one, splats, truth

SIZE = 16
TIGHT = 1e-10


def picture(scene: Splats, cameras: Cameras | None = None, **options: Any) -> Rendering:
    return render(scene, cameras or camera_at(), SIZE, SIZE, backend="torch", **options)


def grid() -> tuple[np.ndarray, np.ndarray]:
    centres = np.arange(SIZE) + 0.5 - SIZE / 2
    return np.meshgrid(centres, centres, indexing="xy")


def cut(alpha: np.ndarray) -> np.ndarray:
    return np.where(alpha > 1 / 255, np.minimum(alpha, 0.99), 0.0)


def test_one_isotropic_gaussian_on_the_axis() -> None:
    variance = (20.0 * 0.2 / 3.0) ** 2 + 0.3  # (focal · σ / depth)² and the low-pass
    x, y = grid()
    alpha = cut(0.5 * np.exp(-(x * x + y * y) / (2 * variance)))
    seen = picture(one())
    np.testing.assert_allclose(seen.alpha[0, 0], alpha, atol=TIGHT)
    np.testing.assert_allclose(seen.image[0, 0], 1.0, atol=TIGHT)  # red over white
    np.testing.assert_allclose(seen.image[0, 1], 1 - alpha, atol=TIGHT)
    np.testing.assert_allclose(seen.depth[0, 0], np.where(alpha > 0, 3.0, 0.0), atol=TIGHT)


def test_a_long_gaussian_turned_by_30_degrees_about_the_view() -> None:
    long, short, angle = 0.4, 0.1, np.pi / 6
    scene = one(scale=[[long, short, 0.1]], quaternion=[[np.cos(angle / 2), 0, 0, np.sin(angle / 2)]])
    x, y = grid()
    along, beside = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
    k = (20.0 / 3.0) ** 2
    alpha = cut(0.5 * np.exp(-0.5 * (along**2 / (k * long**2 + 0.3) + beside**2 / (k * short**2 + 0.3))))
    np.testing.assert_allclose(picture(scene).alpha[0, 0], alpha, atol=TIGHT)


@pytest.mark.parametrize("red_is_nearer", [True, False])
def test_two_overlapping_gaussians_in_both_orders(red_is_nearer: bool) -> None:
    depths = (2.5, 3.5) if red_is_nearer else (3.5, 2.5)
    scene = splats(
        [[0, 0, depths[0] - 3], [0, 0, depths[1] - 3]],
        [[1, 0, 0], [0, 0, 1]],
        [[0.2] * 3] * 2,
        [[1, 0, 0, 0]] * 2,
        [0.6, 0.7],
    )
    x, y = grid()
    red, blue = (
        cut(top * np.exp(-(x * x + y * y) / (2 * ((20 * 0.2 / z) ** 2 + 0.3))))
        for top, z in zip((0.6, 0.7), depths, strict=True)
    )
    near, far = (red, blue) if red_is_nearer else (blue, red)
    seen = picture(scene, background=(0.0, 0.0, 0.0))
    np.testing.assert_allclose(seen.image[0, 0 if red_is_nearer else 2], near, atol=TIGHT)
    np.testing.assert_allclose(seen.image[0, 2 if red_is_nearer else 0], (1 - near) * far, atol=TIGHT)
    np.testing.assert_allclose(seen.alpha[0, 0], 1 - (1 - near) * (1 - far), atol=TIGHT)


@pytest.mark.parametrize(
    ("why", "scene"),
    [
        ("off the picture", one(xyz=[[5.0, 0, 0]])),
        ("behind the camera", one(xyz=[[0, 0, -4.0]])),
        ("nearer than the near plane", one(xyz=[[0, 0, -2.995]])),
        ("fainter than the cutoff", one(opacity=[[1 / 256]])),
        ("past float32 when projected", one(scale=[[1e25, 1e25, 1e25]])),
        ("there are none", Splats(*(torch.zeros(0, k, dtype=torch.float64) for k in (3, 3, 3, 4, 1)))),
    ],
)
def test_nothing_to_see_is_the_background(why: str, scene: Splats) -> None:
    seen = picture(scene, background=(0.25, 0.5, 0.75))
    expected = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64).view(1, 3, 1, 1).expand(1, 3, SIZE, SIZE)
    assert torch.equal(seen.image, expected), why
    assert not seen.alpha.any(), why
    assert not seen.depth.any(), why


def test_an_opacity_near_one_is_held_at_099() -> None:
    scene = one(opacity=[[1 - 1e-12]], scale=[[2.0, 2.0, 2.0]])
    seen = picture(scene)
    assert float(seen.alpha.max()) == pytest.approx(0.99, abs=TIGHT)
    np.testing.assert_allclose(seen.image.numpy(), truth(scene, camera_at(), SIZE, SIZE)[0], atol=TIGHT)


def test_a_pixel_is_finished_before_its_light_reaches_1e4() -> None:
    n = 6
    scene = splats(
        [[0, 0, 0.1 * i] for i in range(n)], [[1, 1, 1]] * n, [[3.0] * 3] * n, [[1, 0, 0, 0]] * n, [0.95] * n
    )
    alpha = truth(scene, camera_at(), SIZE, SIZE)[1]
    assert 1 - alpha.max() > 1e-4  # six of them would leave 0.05⁶
    np.testing.assert_allclose(picture(scene).alpha.numpy(), alpha, atol=TIGHT)


@pytest.mark.parametrize("seed", range(4))
def test_a_cloud_from_three_sides_is_what_the_slow_renderer_says(seed: int) -> None:
    scene, cameras = (
        cloud(40, seed),
        camera_at(distance=1.5, views=3),
    )  # some behind, some past the frustum's margin
    image, alpha, depth = truth(scene, cameras, 12, SIZE, (0.2, 0.4, 0.6))
    seen = render(scene, cameras, 12, SIZE, (0.2, 0.4, 0.6), backend="torch")
    np.testing.assert_allclose(seen.image, image, atol=TIGHT)
    np.testing.assert_allclose(seen.alpha, alpha, atol=TIGHT)
    np.testing.assert_allclose(seen.depth, depth, atol=1e-8)


def test_float32_is_within_1e5_of_float64() -> None:
    scene, cameras = cloud(200, 7), camera_at(views=4)
    exact = picture(scene, cameras).image
    single = picture(scene.to(torch.float32), cameras).image
    assert single.dtype == torch.float32
    # A Gaussian on the edge of the 1/255 cutoff may fall either way: those pixels are allowed 1/255 and are
    # few.
    error = (single - exact).abs()
    assert float(error.max()) < 1 / 255
    assert float((error > 1e-5).double().mean()) < 0.01
