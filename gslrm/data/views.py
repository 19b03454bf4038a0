"""Pictures with the cameras that saw them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


class SceneError(ValueError):
    """A scene that cannot be used; the message names the file and the field."""


@dataclass(frozen=True)
class PosedViews:
    """v square pictures of one object, and their cameras in OpenCV's convention (x right, y down, z forward).

    images: RGB, or RGB over the background colour and then the mask (1 foreground, 0 background); in [0, 1].
    c2w: camera-to-world, rigid, world units.
    intrinsics: fx, fy, cx, cy in pixels; the first pixel's centre is at (0.5, 0.5).
    ids: one name for each view, such as its file's.
    scene: the scene's name.

    Raises SceneError for wrong shapes or dtypes, and for numbers that are NaN, infinite or out of range.
    """

    images: Float[Tensor, "v c h w"]
    c2w: Float[Tensor, "v 4 4"]
    intrinsics: Float[Tensor, "v 4"]
    ids: tuple[str, ...]
    scene: str = ""

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        if len(shape) != 4 or shape[0] < 1 or shape[1] not in (3, 4):
            raise SceneError(f"scene {self.scene!r}: images have shape {shape}, expected (views, 3 or 4, h, w)")
        if len(self.ids) != shape[0]:
            raise SceneError(f"scene {self.scene!r}: {len(self.ids)} ids for {shape[0]} images")
        for name, expected in (("images", shape), ("c2w", (shape[0], 4, 4)), ("intrinsics", (shape[0], 4))):
            value: Tensor = getattr(self, name)
            if tuple(value.shape) != expected or value.dtype != torch.float32:
                raise SceneError(
                    f"scene {self.scene!r}: {name} is {value.dtype} of shape {tuple(value.shape)}, "
                    f"expected torch.float32 of shape {expected}"
                )
            if not torch.isfinite(value).all():
                raise SceneError(f"scene {self.scene!r}: {name} holds a NaN or an infinity")
        if self.images.min() < 0 or self.images.max() > 1:
            raise SceneError(f"scene {self.scene!r}: images leave [0, 1]")
        if (self.intrinsics[:, :2] <= 0).any():
            raise SceneError(f"scene {self.scene!r}: a focal length is 0 or less")

    @property
    def rgb(self) -> Float[Tensor, "v 3 h w"]:
        """The pictures without the mask."""
        return self.images[:, :3]

    @property
    def mask(self) -> Float[Tensor, "v 1 h w"] | None:
        """1 foreground, 0 background, between at an edge; None for pictures without one."""
        return self.images[:, 3:] if self.images.shape[1] == 4 else None

    def select(self, views: Sequence[int]) -> PosedViews:
        """These views, in this order. Raises SceneError for a view that is not there."""
        for view in views:
            if not 0 <= view < len(self.ids):
                raise SceneError(f"scene {self.scene!r} has views 0 to {len(self.ids) - 1}, but not {view}")
        index = torch.as_tensor(list(views), dtype=torch.long, device=self.images.device)
        ids = tuple(self.ids[view] for view in views)
        return PosedViews(self.images[index], self.c2w[index], self.intrinsics[index], ids, self.scene)

    def to(self, device: torch.device | str) -> PosedViews:
        """The same views on `device`."""
        images, c2w, intrinsics = (x.to(device) for x in (self.images, self.c2w, self.intrinsics))
        return PosedViews(images, c2w, intrinsics, self.ids, self.scene)


@dataclass(frozen=True)
class ViewBatch:
    """v views of each of b scenes; see `PosedViews` for each field."""

    images: Float[Tensor, "b v c h w"]
    c2w: Float[Tensor, "b v 4 4"]
    intrinsics: Float[Tensor, "b v 4"]
    scenes: tuple[str, ...]

    def to(self, device: torch.device | str) -> ViewBatch:
        """The same views on `device`."""
        return ViewBatch(self.images.to(device), self.c2w.to(device), self.intrinsics.to(device), self.scenes)

    def first(self, views: int) -> ViewBatch:
        """The first `views` views of each scene."""
        return ViewBatch(self.images[:, :views], self.c2w[:, :views], self.intrinsics[:, :views], self.scenes)

    def after(self, views: int) -> ViewBatch:
        """All but the first `views` views of each scene."""
        return ViewBatch(self.images[:, views:], self.c2w[:, views:], self.intrinsics[:, views:], self.scenes)


def stack_views(scenes: Sequence[PosedViews]) -> ViewBatch:
    """A batch of scenes. Raises SceneError when they differ in number of views, channels or size."""
    if not scenes:
        raise SceneError("a batch needs at least one scene")
    first = scenes[0]
    for other in scenes[1:]:
        if other.images.shape != first.images.shape:
            raise SceneError(
                f"scenes {first.scene!r} and {other.scene!r} do not fit in one batch: their images have "
                f"shapes {tuple(first.images.shape)} and {tuple(other.images.shape)}"
            )
    return ViewBatch(
        images=torch.stack([scene.images for scene in scenes]),
        c2w=torch.stack([scene.c2w for scene in scenes]),
        intrinsics=torch.stack([scene.intrinsics for scene in scenes]),
        scenes=tuple(scene.scene for scene in scenes),
    )
