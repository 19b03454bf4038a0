"""3D Gaussian splatting: one call, two backends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from gslrm.rendering import gsplat_backend, torch_backend
from gslrm.rendering.scene import Cameras, Rendering, Splats
from gslrm.rendering.tiles import Tiling

Backend = Literal["auto", "torch", "gsplat"]
NonFinite = Literal["propagate", "raise"]
WHITE = (1.0, 1.0, 1.0)
NEAR = 0.01
"""Gaussians whose centre is nearer than this to the camera's plane, world units, are not drawn."""


class BatchOfSplats(Protocol):
    """Gaussians of b scenes, as a model gives them; see `Splats` for each field."""

    @property
    def xyz(self) -> Float[Tensor, "b n 3"]: ...
    @property
    def colour(self) -> Float[Tensor, "b n 3"]: ...
    @property
    def scale(self) -> Float[Tensor, "b n 3"]: ...
    @property
    def quaternion(self) -> Float[Tensor, "b n 4"]: ...
    @property
    def opacity(self) -> Float[Tensor, "b n 1"]: ...


def choose_backend(backend: Backend, device: torch.device, dtype: torch.dtype) -> Literal["torch", "gsplat"]:
    """`auto` is gsplat on CUDA in float32 where it is installed, otherwise PyTorch. Raises ValueError for
    others."""
    if backend == "auto":
        fits = device.type == "cuda" and dtype == torch.float32 and gsplat_backend.installed()
        return "gsplat" if fits else "torch"
    if backend not in ("torch", "gsplat"):
        raise ValueError(f"backend is {backend!r}, expected 'auto', 'torch' or 'gsplat'")
    return backend


def render(
    splats: Splats,
    cameras: Cameras,
    height: int,
    width: int,
    background: Float[Tensor, "3"] | Sequence[float] = WHITE,
    backend: Backend = "auto",
    *,
    near: float = NEAR,
    non_finite: NonFinite = "propagate",
    tiling: Tiling | None = None,
) -> Rendering:
    """Pictures of height × width px of the Gaussians from every camera, over `background` (RGB).

    EWA splatting (Zwicker et al. 2001) with the conventions of 3D Gaussian Splatting (Kerbl et al. 2023): 0.3
    px² low-pass, front-to-back compositing by the centre's depth (equally deep Gaussians in the order given),
    alpha held at 0.99, cut off at 1/255, and a pixel finished before its transmittance would reach 1e-4.

    Everything is computed in float32 (float64 when any field of `splats` is), whatever autocast says;
    half-precision fields are cast up, and gradients go back in the dtype that each field had. No gradient
    goes into the cameras.

    A NaN or an infinity in the Gaussians makes every picture, and every gradient, NaN: dropping the Gaussian
    would hide a fault from the training step, whose business it is to skip it. `non_finite="raise"` raises
    ValueError instead. A finite Gaussian whose projection is past float32 is not drawn.

    `tiling` is for the PyTorch backend, and changes its time and memory alone.

    Raises ValueError for bad sizes, backgrounds, backends or devices, RuntimeError when gsplat is asked for
    and absent.
    """
    if height < 1 or width < 1:
        raise ValueError(f"a picture of {height} × {width} px was asked for, expected at least 1 × 1")
    if cameras.c2w.device != splats.xyz.device or cameras.intrinsics.device != splats.xyz.device:
        raise ValueError(f"cameras are on {cameras.c2w.device}, but the Gaussians are on {splats.xyz.device}")
    dtype, device = splats.dtype, splats.xyz.device
    behind = torch.as_tensor(background, dtype=dtype, device=device)
    if behind.shape != (3,):
        raise ValueError(f"background has shape {tuple(behind.shape)}, expected (3,): red, green, blue")
    chosen = choose_backend(backend, device, dtype)
    if non_finite not in ("propagate", "raise"):
        raise ValueError(f"non_finite is {non_finite!r}, expected 'propagate' or 'raise'")
    finite = splats.finite()
    if not finite and non_finite == "raise":
        raise ValueError(_where_not_finite(splats))
    with torch.autocast(device.type, enabled=False):
        cast = splats.to(dtype)
        if chosen == "gsplat":
            layers = gsplat_backend.rasterize(cast, cameras, height, width, near)
        else:
            layers = torch_backend.rasterize(cast, cameras, height, width, near, tiling)
        if not finite:
            # NaN forward, and in the backward pass times any gradient, for every element of every field.
            layers = layers + sum((field * float("nan")).sum() for field in cast.fields())
        colour, alpha, depth = layers.split([3, 1, 1], dim=1)
        image = colour + (1 - alpha) * behind.view(3, 1, 1)
        return Rendering(image, alpha, depth / alpha.clamp(min=1e-8))


def _where_not_finite(splats: Splats) -> str:
    for name, field in zip(("xyz", "colour", "scale", "quaternion", "opacity"), splats.fields(), strict=True):
        bad = (~torch.isfinite(field)).any(-1)
        if bad.any():
            first = int(bad.nonzero()[0])
            return f"{name} is NaN or infinite in {int(bad.sum())} of {len(bad)} Gaussians, first in {first}"
    return "a sum over the Gaussians is past the range of their dtype"


def render_batch(
    splats: BatchOfSplats,
    c2w: Float[Tensor, "b v 4 4"],
    intrinsics: Float[Tensor, "b v 4"],
    height: int,
    width: int,
    background: Float[Tensor, "3"] | Sequence[float] = WHITE,
    backend: Backend = "auto",
    *,
    near: float = NEAR,
    non_finite: NonFinite = "propagate",
    tiling: Tiling | None = None,
) -> Rendering:
    """`render` for each scene of a batch, from its own cameras: images (b, v, 3, h, w) and so on.

    A scene with a non-finite Gaussian spoils its own pictures only. Raises as `render`; ValueError for batch
    sizes that differ.
    """
    sizes = {len(splats.xyz), len(c2w), len(intrinsics)}
    if len(sizes) != 1 or not len(c2w):
        raise ValueError(f"batches of {sorted(sizes)} scenes: Gaussians and cameras must be as many, and at least 1")
    scenes = [
        render(
            Splats(splats.xyz[i], splats.colour[i], splats.scale[i], splats.quaternion[i], splats.opacity[i]),
            Cameras(c2w[i], intrinsics[i]),
            height,
            width,
            background,
            backend,
            near=near,
            non_finite=non_finite,
            tiling=tiling,
        )
        for i in range(len(c2w))
    ]
    return Rendering(
        torch.stack([scene.image for scene in scenes]),
        torch.stack([scene.alpha for scene in scenes]),
        torch.stack([scene.depth for scene in scenes]),
    )
