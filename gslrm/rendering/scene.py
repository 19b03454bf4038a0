"""What goes into the renderer and what comes out: Gaussians, cameras, and the pictures of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Splats:
    """The 3D Gaussians of one scene, in world space.

    xyz: centres, world units.
    colour: RGB, 0 or more, the same from every direction (spherical harmonics of degree 0).
    scale: standard deviations along the Gaussian's own axes, world units, above 0.
    quaternion: the rotation from its own axes to the world, (w, x, y, z); normalised again here, so that the
        gradient is tangent to the unit sphere. It must not be zero.
    opacity: alpha at the centre, in (0, 1).

    All five are floating point and on one device. Raises ValueError otherwise, naming the field.
    """

    xyz: Float[Tensor, "n 3"]
    colour: Float[Tensor, "n 3"]
    scale: Float[Tensor, "n 3"]
    quaternion: Float[Tensor, "n 4"]
    opacity: Float[Tensor, "n 1"]

    def __post_init__(self) -> None:
        n = self.xyz.shape[0] if self.xyz.dim() else -1
        if self.colour.dim() == 3 and self.colour.shape[1] > 1:
            raise ValueError(
                f"colour has shape {tuple(self.colour.shape)}: spherical harmonics of degree above 0 are not "
                "supported; give one RGB colour for each Gaussian, shape (n, 3)"
            )
        for name, width in (("xyz", 3), ("colour", 3), ("scale", 3), ("quaternion", 4), ("opacity", 1)):
            value: Tensor = getattr(self, name)
            if tuple(value.shape) != (n, width):
                raise ValueError(f"{name} has shape {tuple(value.shape)}, expected ({max(n, 0)}, {width})")
            if not value.is_floating_point():
                raise ValueError(f"{name} is {value.dtype}, expected floating point")
            if value.device != self.xyz.device:
                raise ValueError(f"{name} is on {value.device}, but xyz is on {self.xyz.device}")

    @property
    def dtype(self) -> torch.dtype:
        """What the pictures are computed in: float64 when any field is float64, otherwise float32."""
        double = any(field.dtype == torch.float64 for field in self.fields())
        return torch.float64 if double else torch.float32

    def fields(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """xyz, colour, scale, quaternion, opacity, in this order."""
        return self.xyz, self.colour, self.scale, self.quaternion, self.opacity

    def to(self, dtype: torch.dtype) -> Splats:
        """The same Gaussians in `dtype`; gradients go back in the dtype that each field had."""
        return Splats(*(field.to(dtype) for field in self.fields()))

    def finite(self) -> bool:
        """Whether no field holds a NaN or an infinity."""
        # A sum of x * 0 is 0 exactly when every x is finite: one small result to wait for.
        with torch.no_grad():
            return bool(torch.stack([(field * 0).sum().float() for field in self.fields()]).sum() == 0)


@dataclass(frozen=True)
class Cameras:
    """Pinhole cameras in OpenCV's convention: x right, y down, z forward.

    c2w: camera-to-world, the last row 0 0 0 1.
    intrinsics: fx, fy, cx, cy in pixels; the first pixel's centre is at (0.5, 0.5).

    Cameras are constants: no gradient goes back into them. Raises ValueError for wrong shapes, a camera that
    asks for a gradient, non-finite numbers, focal lengths of 0 or less, or a c2w without an inverse, naming
    the view.
    """

    c2w: Float[Tensor, "v 4 4"]
    intrinsics: Float[Tensor, "v 4"]

    def __post_init__(self) -> None:
        views = self.c2w.shape[0] if self.c2w.dim() else -1
        if tuple(self.c2w.shape) != (views, 4, 4):
            raise ValueError(f"c2w has shape {tuple(self.c2w.shape)}, expected (views, 4, 4)")
        if tuple(self.intrinsics.shape) != (views, 4):
            raise ValueError(
                f"intrinsics has shape {tuple(self.intrinsics.shape)}, expected ({views}, 4): fx, fy, cx, cy"
            )
        if self.c2w.requires_grad or self.intrinsics.requires_grad:
            raise ValueError("a camera asks for a gradient, but cameras are constants here: detach them")
        numbers = torch.cat([self.c2w.flatten(1), self.intrinsics], dim=1).detach().double().cpu()
        for view, row in enumerate(numbers):
            if not torch.isfinite(row).all():
                raise ValueError(f"camera of view {view} holds a NaN or an infinity")
            if (row[16:18] <= 0).any():
                raise ValueError(f"focal length of view {view} is {row[16]:g}, {row[17]:g} px, expected above 0")
            if abs(float(torch.linalg.det(row[:16].view(4, 4)))) < 1e-12:
                raise ValueError(f"c2w of view {view} is singular: it has no inverse")

    def world_to_camera(self, dtype: torch.dtype) -> Float[Tensor, "v 4 4"]:
        """The inverses of c2w, taken in float64."""
        return torch.linalg.inv(self.c2w.double()).to(dtype)


@dataclass(frozen=True)
class Rendering:
    """Pictures of one scene from v cameras, or of b scenes with a leading b.

    image: RGB over the background; 0 or more, and at most 1 when colours and background are.
    alpha: how much of each pixel the Gaussians cover, in [0, 1).
    depth: expected distance along the camera's z axis, world units, over what is covered; 0 where nothing is.
    """

    image: Float[Tensor, "*b v 3 h w"]
    alpha: Float[Tensor, "*b v 1 h w"]
    depth: Float[Tensor, "*b v 1 h w"]
