"""The renderer as a function of plain tensors, for callers that know none of its classes."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from gslrm.rendering.render import render
from gslrm.rendering.scene import Cameras, Splats


def render_tensors(
    xyz: Float[Tensor, "n 3"],
    colour: Float[Tensor, "n 3"],
    scale: Float[Tensor, "n 3"],
    quaternion: Float[Tensor, "n 4"],
    opacity: Float[Tensor, "n 1"],
    c2w: Float[Tensor, "v 4 4"],
    intrinsics: Float[Tensor, "v 4"],
    height: int,
    width: int,
) -> tuple[Float[Tensor, "v 3 h w"], Float[Tensor, "v 1 h w"], Float[Tensor, "v 1 h w"]]:
    """Image, alpha and depth, over the default background; fields, units and errors as in :func:`render`."""
    splats = Splats(xyz, colour, scale, quaternion, opacity)
    pictures = render(splats, Cameras(c2w, intrinsics), height, width)
    return pictures.image, pictures.alpha, pictures.depth
