"""The renderer on a GPU: PyTorch against itself on the CPU, and against gsplat."""

from __future__ import annotations

import pytest
import torch

from gslrm.rendering import Cameras, Splats, gsplat_backend, render
from tests.gslrm.rendering.splat_cases import asking_for_gradients, camera_at, cloud

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU"),
]


def on_gpu(scene: Splats, cameras: Cameras) -> tuple[Splats, Cameras]:
    moved = Splats(*(field.detach().cuda().requires_grad_() for field in scene.fields()))
    return moved, Cameras(cameras.c2w.cuda(), cameras.intrinsics.cuda())


def test_the_pytorch_backend_is_the_same_on_both_devices() -> None:
    scene, cameras = asking_for_gradients(cloud(400, 1)), camera_at(views=3, size=48, focal=60.0)
    gpu_scene, gpu_cameras = on_gpu(scene, cameras)
    expected, found = (
        render(scene, cameras, 48, 48, backend="torch"),
        render(gpu_scene, gpu_cameras, 48, 48, backend="torch"),
    )
    torch.testing.assert_close(found.image.cpu(), expected.image, rtol=1e-9, atol=1e-9)
    expected.image.square().sum().backward()
    found.image.square().sum().backward()
    for a, b in zip(gpu_scene.fields(), scene.fields(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        torch.testing.assert_close(a.grad.cpu(), b.grad, rtol=1e-7, atol=1e-8)


@pytest.mark.skipif(not gsplat_backend.installed(), reason="gsplat is not installed")
def test_gsplat_agrees() -> None:
    # Opacities stay under 0.99, where the two clamps differ. What is left is where a Gaussian ends: gsplat
    # may end it at 3 standard deviations, where ours still gives up to 0.011 of its opacity.
    scene = cloud(400, 2, torch.float32)
    cameras = camera_at(views=3, size=64, focal=80.0)
    pictures, gradients = [], []
    for backend in ("torch", "gsplat"):
        gpu_scene, gpu_cameras = on_gpu(scene, cameras)
        seen = render(gpu_scene, gpu_cameras, 64, 64, backend=backend)
        seen.image.square().mean().backward()
        pictures.append(seen)
        gradients.append([field.grad for field in gpu_scene.fields()])
    for name in ("image", "alpha"):
        error = (getattr(pictures[0], name) - getattr(pictures[1], name)).abs()
        assert float(error.max()) < 0.03, name
        assert float(error.mean()) < 2e-3, name
    covered = pictures[0].alpha > 0.1
    error = (pictures[0].depth - pictures[1].depth).abs()[covered]
    assert float(error.max()) < 0.1
    for a, b in zip(*gradients, strict=True):
        assert a is not None
        assert b is not None
        assert float((a - b).norm() / a.norm()) < 0.05
