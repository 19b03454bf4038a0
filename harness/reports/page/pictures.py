"""Small arrays as pictures: PNGs in data URIs, a pixel for a number, with the scale that each is drawn in."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from harness.packed_arrays import unpacked

# Of what is neither finite nor in any of the maps.
_NOT_FINITE = (255, 0, 200)
_BAR_STOPS = 9
_SIGNED, _UNSIGNED, _GREY = "RdBu_r", "viridis", "gray"


@dataclass(frozen=True)
class PictureOf:
    """How one array is shown.

    Attributes:
        key: its name in the evidence.
        title: over the picture.
        told: under it: what a person has to know to read it.
        map: a colour map's name; empty for an image that has colours.
        fixed: the scale is [0, 1] whatever the numbers are; else it is the array's own.
    """

    key: str
    title: str
    told: str
    map: str = ""
    fixed: bool = False


SHOWN = (
    PictureOf("target", "Target", "", fixed=True),
    PictureOf("rendering", "Rendering", "", fixed=True),
    PictureOf("mask", "Mask", "white: foreground", _GREY, fixed=True),
    PictureOf("difference", "Difference", "rendering − target, the channel that differs most", _SIGNED),
    PictureOf("1 - SSIM", "1 − SSIM", "of each 11×11 window, in float64", _UNSIGNED),
    PictureOf("gradient", "Its gradient", "the channel that is furthest off", _SIGNED),
    PictureOf("true gradient", "True gradient", "float64, the same channel", _SIGNED),
    PictureOf("rounding error", "Digits lost", "error of the first op beyond its dtype", _UNSIGNED),
)


@dataclass(frozen=True)
class Picture:
    """One picture, ready for the page.

    Attributes:
        uri: of its PNG.
        alt: in words, for who can't see it.
        low, high: the ends of its scale in words; empty where it has no bar.
        bar: a CSS gradient of its colours.
        told: remarks under it.
    """

    title: str
    uri: str
    alt: str
    width: int
    height: int
    low: str
    high: str
    bar: str
    told: tuple[str, ...]


def pictures(arrays: Mapping[str, Any]) -> list[Picture]:
    """Those of these packed arrays that are known, in their order.

    Raises:
        ValueError: one is no image.
    """
    return [_picture(shown, unpacked(arrays[shown.key])) for shown in SHOWN if shown.key in arrays]


def _picture(shown: PictureOf, array: NDArray[np.float32]) -> Picture:
    is_colour = array.ndim == 3 and array.shape[0] == 3
    if not (is_colour or array.ndim == 2) or 0 in array.shape:
        raise ValueError(f"the picture {shown.key!r} has the shape {list(array.shape)}")
    wrong = ~np.isfinite(array)
    finite = array[~wrong].astype(np.float64)
    least, most = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    low, high = (0.0, 1.0) if shown.fixed else _scale(least, most, shown.map == _SIGNED)
    pixels = _coloured(array, shown.map, low, high)
    bad = wrong.any(0) if is_colour else wrong
    pixels[bad] = _NOT_FINITE
    told = [shown.told] if shown.told else []
    if bad.any():
        told.append(f"{int(bad.sum())} of {bad.size} not finite (pink)")
    if least == most:
        told.append(f"{_number(least)} everywhere")
    elif shown.map in ("", _SIGNED):
        told.append(f"from {_number(least)} to {_number(most)}")
    height, width = pixels.shape[:2]
    bar = "" if is_colour or low == high else _bar(shown.map)
    ends = (_number(low), _number(high)) if bar else ("", "")
    alt = f"{shown.title}, {height} by {width} pixels, {', '.join(told)}"
    return Picture(shown.title, _uri(pixels), alt, width, height, *ends, bar, tuple(told))


def _scale(least: float, most: float, signed: bool) -> tuple[float, float]:
    """The array's own range; of what has a sign, with 0 in the middle."""
    if signed:
        reach = max(abs(least), abs(most))
        return -reach, reach
    return least, most


def _coloured(array: NDArray[np.float32], colour_map: str, low: float, high: float) -> NDArray[np.uint8]:
    """(h, w, 3) bytes."""
    numbers = np.nan_to_num(array.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    spread = high - low
    # Of nothing but one number, the middle.
    share = np.clip((numbers - low) / spread, 0.0, 1.0) if spread > 0 else np.full(numbers.shape, 0.5)
    if not colour_map:
        return np.round(np.moveaxis(share, 0, -1) * 255).astype(np.uint8)
    return np.round(colormaps[colour_map](share)[..., :3] * 255).astype(np.uint8)


def _bar(colour_map: str) -> str:
    colours = colormaps[colour_map](np.linspace(0, 1, _BAR_STOPS))
    stops = ("#" + "".join(f"{round(255 * float(part)):02x}" for part in colour[:3]) for colour in colours)
    return f"linear-gradient(to right, {', '.join(stops)})"


def _uri(pixels: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _number(value: float) -> str:
    return "0" if value == 0 else f"{value:.3g}".replace("-", "−")
