"""A scene folder: `opencv_cameras.json` and the pictures that it names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from gslrm.data.cameras import Frame, read_cameras
from gslrm.data.images import background_rgb, masked_image, read_png, resize
from gslrm.data.views import PosedViews, SceneError

MOST_ELEMENTS = 2**29
"""Numbers in a scene's pictures and masks, held as float32: 500 views of 512 px, 2 GB."""


def load_scene(
    folder: Path | str,
    image_size: int | None = None,
    *,
    background: str | Sequence[float] = "white",
    remove_alpha: bool = False,
    mask_threshold: int = 250,
    views: Sequence[int] | None = None,
) -> PosedViews:
    """The views of a scene folder, on the CPU.

    RGBA pictures are put over `background`; the mask is their alpha, or for RGB pictures 0 where all three
    channels exceed mask_threshold / 255. Pictures and masks are resized (Lanczos) to `image_size`, and the
    intrinsics by the same ratio; None keeps the size on disk. `views` names the frames to load, all by
    default; `remove_alpha` leaves the mask out.

    Raises SceneError naming the file and field that is wrong, ValueError for arguments out of range.
    """
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size is {image_size}, expected at least 1 px")
    if not 0 <= mask_threshold <= 255:
        raise ValueError(f"mask_threshold is {mask_threshold}, expected 0 to 255")
    behind, folder = background_rgb(background), Path(folder)
    name, frames = read_cameras(folder)
    chosen = [_nth(frames, view, folder) for view in (views if views is not None else range(len(frames)))]
    if not chosen:
        raise ValueError("no views were chosen")
    size = image_size if image_size is not None else chosen[0].size
    if len(chosen) * 4 * size**2 > MOST_ELEMENTS:
        raise SceneError(
            f"{folder}: {len(chosen)} views of {size} × {size} px are too large to hold: use fewer or smaller"
        )
    images = []
    for frame in chosen:
        if image_size is None and frame.size != size:
            raise SceneError(
                f"{folder / frame.file_path}: w is {frame.size}, but {chosen[0].file_path} has {size}; "
                "give an image_size to bring them to one"
            )
        image = masked_image(read_png(folder / frame.file_path, frame.size), behind, mask_threshold)
        images.append(resize(image[:3] if remove_alpha else image, size))
    return assemble(images, chosen, size, name)


def assemble(images: Sequence[np.ndarray], frames: Sequence[Frame], size: int, name: str) -> PosedViews:
    """Views from pictures of `size` px and their frames, whose intrinsics are scaled to `size`."""
    intrinsics = [[k * size / f.size for k in (f.fx, f.fy, f.cx, f.cy)] for f in frames]
    return PosedViews(
        images=torch.from_numpy(np.stack(images)),
        # The inverse is taken in float64.
        c2w=torch.from_numpy(np.stack([f.c2w() for f in frames])).float(),
        intrinsics=torch.tensor(intrinsics, dtype=torch.float32),
        ids=tuple(f.file_path for f in frames),
        scene=name,
    )


def _nth(frames: tuple[Frame, ...], view: int, folder: Path) -> Frame:
    if not 0 <= view < len(frames):
        raise SceneError(f"{folder}: has views 0 to {len(frames) - 1}, but not {view}")
    return frames[view]
