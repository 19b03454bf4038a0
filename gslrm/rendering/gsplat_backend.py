"""The gsplat backend: https://docs.gsplat.studio, CUDA and float32 only, used when it is installed."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gslrm.rendering.projection import LOW_PASS
from gslrm.rendering.scene import Cameras, Splats


def installed() -> bool:
    """Whether gsplat can be found; it is not imported."""
    return importlib.util.find_spec("gsplat") is not None


def _gsplat() -> Any:
    try:
        return importlib.import_module("gsplat")
    except ImportError as error:
        raise RuntimeError(
            f"the gsplat backend was asked for, but gsplat cannot be imported ({error}); install it with "
            "`pip install gsplat`, or use backend='torch'"
        ) from error


def rasterize(splats: Splats, cameras: Cameras, height: int, width: int, near: float) -> Float[Tensor, "v 5 h w"]:
    """Red, green, blue, alpha and alpha × depth of every view, over black: as the PyTorch backend's.

    gsplat holds alpha at 0.999 rather than 0.99 and its releases differ in how far out a Gaussian is drawn (3
    standard deviations, or up to the 1/255 cutoff), so the two backends agree to about 0.01 of the full range
    at an edge.

    Raises RuntimeError when gsplat is absent, ValueError for tensors off CUDA or in float64.
    """
    gsplat = _gsplat()
    if splats.xyz.device.type != "cuda":
        raise ValueError(f"gsplat draws on CUDA only, but the Gaussians are on {splats.xyz.device}")
    if splats.dtype != torch.float32:
        raise ValueError("gsplat draws in float32 only; use backend='torch' for float64")
    fx, fy, cx, cy = cameras.intrinsics.float().unbind(-1)
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    matrices = torch.stack([fx, zero, cx, zero, fy, cy, zero, zero, one], dim=-1).view(-1, 3, 3)
    colours, alphas, _ = gsplat.rasterization(
        means=splats.xyz,
        quats=splats.quaternion,
        scales=splats.scale,
        opacities=splats.opacity[:, 0],
        colors=splats.colour,
        viewmats=cameras.world_to_camera(torch.float32),
        Ks=matrices,
        width=width,
        height=height,
        near_plane=near,
        eps2d=LOW_PASS,
        packed=False,
        render_mode="RGB+D",
    )
    # (v, h, w, red green blue and alpha × depth) and (v, h, w, 1).
    return torch.cat([colours[..., :3], alphas, colours[..., 3:]], dim=-1).permute(0, 3, 1, 2)
