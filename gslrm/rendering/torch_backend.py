"""The PyTorch backend: any device, float32 or float64, one view at a time forward and backward."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from gslrm.rendering.compositing import composite, composite_backward
from gslrm.rendering.projection import Footprint, project
from gslrm.rendering.scene import Cameras, Splats
from gslrm.rendering.tiles import Tiling


def rasterize(
    splats: Splats, cameras: Cameras, height: int, width: int, near: float, tiling: Tiling | None = None
) -> Float[Tensor, "v 5 h w"]:
    """Red, green, blue, alpha and alpha × depth of every view, over black.

    A view keeps only its picture for the backward pass, and is projected and composited again there, so
    memory beyond the pictures does not grow with the number of views. The caller has autocast off.
    """
    tiling = tiling or Tiling.for_picture(height, width, splats.xyz.device)
    w2c = cameras.world_to_camera(splats.dtype)
    intrinsics = cameras.intrinsics.to(splats.dtype)
    frame = (height, width, near, tiling)
    pictures = [_View.apply(*splats.fields(), w2c[i], intrinsics[i], frame) for i in range(len(w2c))]
    return torch.stack(pictures) if pictures else splats.xyz.new_zeros(0, 5, height, width)


def _nearest_first(footprint: Footprint) -> Tensor:
    """Columns of the visible Gaussians, nearest first; equally near ones in the order they came in."""
    visible = footprint.visible.nonzero().squeeze(1)
    return visible[footprint.table[-1].index_select(0, visible).argsort(stable=True)]


class _View(torch.autograd.Function):
    """One view of the Gaussians."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        *fields, w2c, intrinsics, (height, width, near, tiling) = inputs
        with torch.no_grad():
            footprint = project(Splats(*fields), w2c, intrinsics, height, width, near)
            order = _nearest_first(footprint)
            composited = composite(
                footprint.table.index_select(1, order),
                footprint.reach.index_select(1, order),
                height,
                width,
                tiling,
            )
        ctx.save_for_backward(*fields, w2c, intrinsics, composited)
        ctx.frame = (height, width, near, tiling)
        return composited

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *fields, w2c, intrinsics, composited = ctx.saved_tensors
        height, width, near, tiling = ctx.frame
        # The backward pass may run inside an autocast that the forward pass did not.
        with torch.autocast(w2c.device.type, enabled=False):
            with torch.no_grad():
                order = _nearest_first(project(Splats(*fields), w2c, intrinsics, height, width, near))
            # Only the visible ones are differentiated: a 0 gradient through a division by 0 would be NaN.
            seen = [field.index_select(0, order).detach().requires_grad_() for field in fields]
            with torch.enable_grad():
                footprint = project(Splats(*seen), w2c, intrinsics, height, width, near)
            with torch.no_grad():
                rows = composite_backward(footprint.table.detach(), footprint.reach, composited, grad, tiling)
            grads = torch.autograd.grad(footprint.table, seen, rows)
            whole = [torch.zeros_like(f).index_copy_(0, order, g) for f, g in zip(fields, grads, strict=True)]
        return (*whole, None, None, None)
