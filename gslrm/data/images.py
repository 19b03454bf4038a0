"""One picture of a scene: read, put over a background, given a mask, and resized."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from gslrm.data.views import SceneError
from gslrm.files import is_file, one_line

LARGEST_SIDE = 4096
"""Of a picture, px; looked at before it is decoded."""
LARGEST_FILE = 2**28
"""Bytes of a picture's file."""
COLOURS = {"white": (1.0, 1.0, 1.0), "gray": (0.5, 0.5, 0.5), "black": (0.0, 0.0, 0.0)}
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def background_rgb(colour: str | Sequence[float]) -> tuple[float, float, float]:
    """RGB in [0, 1] of a colour's name or of three numbers. Raises ValueError for others."""
    if isinstance(colour, str):
        if colour not in COLOURS:
            raise ValueError(f"background is {colour!r}, expected one of {', '.join(COLOURS)} or three numbers")
        return COLOURS[colour]
    numbers = tuple(float(x) for x in colour)
    if len(numbers) != 3 or not all(0 <= x <= 1 for x in numbers):
        raise ValueError(f"background is {numbers}, expected red, green and blue in [0, 1]")
    return numbers[0], numbers[1], numbers[2]


def read_png(path: Path, size: int | None = None) -> UInt8[np.ndarray, "c h w"]:
    """RGB or RGBA of a square PNG of 8 bits a channel; `size` is the side that it must have.

    Greyscale and palette pictures are widened to RGB, or RGBA when they have transparency. Raises SceneError
    for a file that is missing, no PNG, truncated, not square, of more than 8 bits a channel, of another size, or
    larger than `LARGEST_SIDE`.
    """
    if not is_file(path):
        raise SceneError(f"{path}: no such image")
    if path.stat().st_size > LARGEST_FILE:
        raise SceneError(f"{path}: has {path.stat().st_size} bytes, at most {LARGEST_FILE} are read")
    # Pillow warns of large pictures, which are refused here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pixels = _decoded(path, size)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _decoded(path: Path, size: int | None) -> UInt8[np.ndarray, "h w c"]:
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            width, height = picture.size
            if max(width, height) > LARGEST_SIDE:
                raise SceneError(f"{path}: the image is {width} × {height} px, at most {LARGEST_SIDE} a side are read")
            if width != height:
                raise SceneError(f"{path}: the image is {width} × {height} px, expected a square one")
            if size is not None and width != size:
                raise SceneError(f"{path}: the image is {width} px wide, but its camera's w is {size}")
            if picture.mode.startswith(("I", "F")):
                raise SceneError(f"{path}: the image has more than 8 bits a channel (mode {picture.mode})")
            transparent = "A" in picture.mode or "transparency" in picture.info
            return np.asarray(picture.convert("RGBA" if transparent else "RGB"))
    except SceneError:
        raise
    except _UNREADABLE as error:
        raise SceneError(f"{path}: not a whole PNG image: {one_line(str(error))}") from None


def composite(rgba: UInt8[np.ndarray, "4 h w"], background: tuple[float, float, float]) -> Float32[np.ndarray, "4 h w"]:
    """Straight RGBA put over `background`, and its alpha as the mask; in [0, 1]."""
    straight = _unit(rgba)
    alpha = straight[3:]
    behind = np.asarray(background, dtype=np.float32)[:, None, None]
    return np.concatenate([straight[:3] * alpha + behind * (1 - alpha), alpha])


def automatic_mask(rgb: UInt8[np.ndarray, "3 h w"], threshold: int = 250) -> Float32[np.ndarray, "1 h w"]:
    """0 where all three channels exceed threshold / 255, which is taken for white background; 1 elsewhere."""
    return (rgb <= threshold).astype(np.float32).max(axis=0)[None]


def masked_image(
    pixels: UInt8[np.ndarray, "c h w"], background: tuple[float, float, float], threshold: int = 250
) -> Float32[np.ndarray, "4 h w"]:
    """RGB over the background, and the mask: an RGBA picture's alpha, or an RGB picture's automatic mask.

    An RGB picture keeps its own background.
    """
    if pixels.shape[0] == 4:
        return composite(pixels, background)
    return np.concatenate([_unit(pixels), automatic_mask(pixels, threshold)])


def resize(image: Float32[np.ndarray, "c h w"], size: int) -> Float32[np.ndarray, "c {size} {size}"]:
    """Lanczos to `size` × `size` px, in float; what rings past [0, 1] is clamped."""
    if image.shape[1:] == (size, size):
        return image
    channels = [Image.fromarray(channel).resize((size, size), Image.Resampling.LANCZOS) for channel in image]
    resized = np.stack([np.asarray(channel, dtype=np.float32) for channel in channels])
    return resized.clip(0, 1)


def _unit(pixels: UInt8[np.ndarray, "c h w"]) -> Float32[np.ndarray, "c h w"]:
    return pixels.astype(np.float32) / np.float32(255)
