"""Differentiable 3D Gaussian splatting."""

from gslrm.rendering.render import render, render_batch
from gslrm.rendering.scene import Cameras, Rendering, Splats
from gslrm.rendering.tiles import Tiling

__all__ = ["Cameras", "Rendering", "Splats", "Tiling", "render", "render_batch"]
