"""What the renderer promises besides the picture: tilings, order, precision, faults, memory, errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gslrm.rendering import Cameras, Splats, Tiling, gsplat_backend, render, render_batch
from tests.gslrm.rendering.splat_cases import asking_for_gradients, camera_at, cloud, one

AUTOCAST = [torch.bfloat16, torch.float16]


def image_and_gradients(scene: Splats, cameras: Cameras, **options: Any) -> list[Tensor]:
    scene = asking_for_gradients(scene)
    seen = render(scene, cameras, 24, 20, **options)
    total = seen.image.square().sum() + seen.depth.sum()
    return [seen.image, seen.depth, *torch.autograd.grad(total, scene.fields())]


@pytest.mark.parametrize("tile", [1, 3, 8, 64])
@pytest.mark.parametrize("cells", [1, 2**10, 2**20])
def test_the_tiling_does_not_change_the_picture_or_its_gradient(tile: int, cells: int) -> None:
    scene, cameras = cloud(150, 3), camera_at(views=2)
    expected = image_and_gradients(scene, cameras)
    for a, b in zip(image_and_gradients(scene, cameras, tiling=Tiling(tile, cells)), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_the_order_of_the_gaussians_does_not_matter() -> None:
    scene, cameras = cloud(100, 4), camera_at(views=2)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    shuffled = Splats(*(field[order] for field in scene.fields()))
    pictures = (render(splats, cameras, 16, 16).image for splats in (scene, shuffled))
    torch.testing.assert_close(*pictures, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", AUTOCAST)
def test_autocast_changes_nothing_to_the_bit(dtype: torch.dtype) -> None:
    scene, cameras = cloud(100, 5, torch.float32), camera_at(views=2)
    expected = image_and_gradients(scene, cameras)
    with torch.autocast("cpu", dtype=dtype):
        found = image_and_gradients(scene, cameras)  # the backward pass runs inside it too
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", AUTOCAST)
def test_half_inputs_are_cast_up_and_gradients_come_back_half(dtype: torch.dtype) -> None:
    half = asking_for_gradients(cloud(50, 6).to(dtype))
    single = asking_for_gradients(half.to(torch.float32))
    pictures = [render(scene, camera_at(), 16, 16).image for scene in (half, single)]
    assert pictures[0].dtype == torch.float32
    assert torch.equal(*pictures)
    for picture in pictures:
        picture.square().mean().backward()
    for a, b in zip(half.fields(), single.fields(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert a.grad.dtype == dtype
        assert torch.equal(a.grad, b.grad.to(dtype))


@pytest.mark.parametrize("fault", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["xyz", "colour", "scale", "quaternion", "opacity"])
def test_a_fault_in_one_gaussian_reaches_the_loss_and_every_gradient(name: str, fault: float) -> None:
    scene = cloud(20, 7, torch.float32)
    getattr(scene, name)[11, 0] = fault
    scene = asking_for_gradients(scene)
    loss = render(scene, camera_at(views=2), 8, 8).image.mean()
    assert torch.isnan(loss)
    for gradient in torch.autograd.grad(loss, scene.fields()):
        assert torch.isnan(gradient).all()
    with pytest.raises(ValueError, match=rf"{name} is NaN or infinite in 1 of 20 Gaussians, first in 11"):
        render(scene, camera_at(), 8, 8, non_finite="raise")


@pytest.mark.parametrize("far", [1e10, 1e20, 1e30, 3e38])
def test_an_exploding_but_finite_gaussian_leaves_picture_and_gradients_finite(far: float) -> None:
    for change in ("xyz", "scale", "quaternion", "colour"):
        scene = cloud(20, 8, torch.float32)
        getattr(scene, change)[3] = far if change != "colour" else 1e3
        found = image_and_gradients(scene, camera_at(views=2))
        assert all(torch.isfinite(t).all() for t in found), change


def test_a_depth_past_float32_is_not_drawn() -> None:
    # Seen from 45°, x and z add up to infinity along the view and to 0 across it.
    scene = one(xyz=[[-3e38, 0.0, 3e38]]).to(torch.float32)
    seen = render(scene, camera_at(views=8), 16, 16)
    assert not seen.alpha.any()
    assert not seen.depth.any()


def saved_bytes(run: Callable[[], Tensor]) -> int:
    """Bytes that autograd holds for the backward pass, each storage once."""
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(held.values())


def peak_bytes(run: Callable[[], object]) -> int:
    """The most memory that tensors held at once while `run` ran, beyond what was held before."""
    cpu = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=cpu, profile_memory=True) as profile:
        run()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def test_a_view_holds_its_pictures_alone_for_the_backward_pass() -> None:
    scene = asking_for_gradients(cloud(2000, 9, torch.float32))

    def held(views: int) -> int:
        return saved_bytes(lambda: render(scene, camera_at(views=views), 32, 32).image)

    per_view = (held(8) - held(4)) / 4
    assert per_view <= 12 * 32 * 32 * 4  # twelve planes of float32, however many Gaussians


def test_twice_the_views_do_not_take_twice_the_memory() -> None:
    scene = asking_for_gradients(cloud(3000, 10, torch.float32))

    def peak(views: int) -> int:
        cameras = camera_at(views=views)
        return peak_bytes(lambda: render(scene, cameras, 32, 32).image.square().mean().backward())

    assert peak(8) < 1.3 * peak(4)


@dataclass(frozen=True)
class Batch:
    xyz: Tensor
    colour: Tensor
    scale: Tensor
    quaternion: Tensor
    opacity: Tensor


def test_a_batch_is_its_scenes_one_by_one_and_a_fault_stays_in_its_own() -> None:
    scenes = [cloud(30, seed, torch.float32) for seed in (1, 2)]
    cameras = [camera_at(distance=d, views=2) for d in (3.0, 2.0)]
    scenes[0].xyz[0, 0] = float("nan")
    batch = Batch(*(torch.stack(pair) for pair in zip(*(scene.fields() for scene in scenes), strict=True)))
    c2w, intrinsics = torch.stack([c.c2w for c in cameras]), torch.stack([c.intrinsics for c in cameras])
    seen = render_batch(batch, c2w, intrinsics, 12, 10)
    assert seen.image.shape == (2, 2, 3, 12, 10)
    assert seen.alpha.shape == seen.depth.shape == (2, 2, 1, 12, 10)
    assert torch.isnan(seen.image[0]).all()
    torch.testing.assert_close(seen.image[1], render(scenes[1], cameras[1], 12, 10).image)
    with pytest.raises(ValueError, match="as many"):
        render_batch(batch, c2w[:1], intrinsics, 12, 10)


def test_no_views_give_no_pictures() -> None:
    assert render(one(), camera_at(views=0), 5, 6).image.shape == (0, 3, 5, 6)


def wrong_camera(**changes: Tensor) -> Cameras:
    return replace(camera_at(), **changes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: replace(one(), colour=torch.rand(1, 4, 3)), "spherical harmonics"),
        (lambda: replace(one(), scale=torch.rand(2, 3)), r"scale has shape \(2, 3\), expected \(1, 3\)"),
        (lambda: replace(one(), opacity=torch.ones(1, 1, dtype=torch.int64)), "opacity is torch.int64"),
        (lambda: replace(one(), xyz=torch.tensor(0.0)), "xyz has shape"),
        (lambda: wrong_camera(c2w=torch.zeros(1, 4, 4)), "view 0 is singular"),
        (lambda: wrong_camera(c2w=torch.full((1, 4, 4), float("nan"))), "view 0 holds a NaN"),
        (lambda: wrong_camera(c2w=torch.eye(3)[None]), "c2w has shape"),
        (lambda: wrong_camera(intrinsics=torch.tensor([[0.0, 1, 1, 1]])), "focal length of view 0"),
        (lambda: wrong_camera(intrinsics=torch.ones(2, 4)), r"expected \(1, 4\)"),
        (lambda: wrong_camera(c2w=torch.eye(4)[None].requires_grad_()), "cameras are constants"),
        (lambda: render(one(), camera_at(), 0, 4), "0 × 4 px"),
        (lambda: render(one(), camera_at(), 4, 4, (1.0, 1.0)), "background has shape"),
        (lambda: render(one(), camera_at(), 4, 4, backend="opengl"), "backend is 'opengl'"),
        (lambda: render(one(), camera_at(), 4, 4, non_finite="drop"), "non_finite is 'drop'"),
        (lambda: Tiling(0, 4), "at least 1"),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.skipif(gsplat_backend.installed(), reason="gsplat is installed, so asking for it is no error")
def test_gsplat_asked_for_and_absent_is_a_clear_error() -> None:
    with pytest.raises(RuntimeError, match=r"gsplat cannot be imported.*backend='torch'"):
        render(one(), camera_at(), 4, 4, backend="gsplat")


def test_auto_on_a_cpu_is_the_pytorch_backend() -> None:
    scene, cameras = cloud(10, 0, torch.float32), camera_at()
    assert torch.equal(render(scene, cameras, 8, 8).image, render(scene, cameras, 8, 8, backend="torch").image)
