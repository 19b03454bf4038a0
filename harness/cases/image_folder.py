"""The user's own pictures: RGBA, whose alpha is the mask, or RGB on white, masked automatically."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError
from harness.files import one_line, shown

# Pillow's other formats include one that starts a program (EPS).
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}
# A pixel is background where all three channels exceed this, as in GS-LRM's data loading.
WHITE_THRESHOLD = 250
SMALLEST_SIDE = 11
MOST_PIXELS = 2**24
"""Of a picture, looked at before it is decoded."""
LARGEST_FILE = 2**28
"""Bytes of a picture's file."""
_KEPT_PIXELS = 2**25


class ImageFolder:
    """The pictures of one folder, by file name. Links in the folder are followed.

    Raises:
        UsageError: there is no such folder, or no picture in it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder)
        self._where = one_line(str(folder))
        if not self.path.is_dir():
            raise UsageError(f"--images: there is no folder {self._where}.")
        try:
            self.names = tuple(sorted(p.name for p in self.path.iterdir() if p.suffix.lower() in _FORMATS))
        except OSError as error:
            raise UsageError(f"--images: {self._where} can't be read: {error.strerror}.") from error
        if not self.names:
            raise UsageError(f"--images: {self._where} holds no picture ({', '.join(sorted(_FORMATS))}).")
        self._loaded: dict[str, tuple[NDArray[np.uint8], NDArray[np.bool_]]] = {}

    def load(self, name: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Colours (h, w, 3), composited over white where there is alpha, and the mask (h, w).

        Raises:
            UsageError: the file is missing, damaged, too large, of more than 8 bits a channel, or under 11 pixels a
                side.
        """
        if name not in self._loaded:
            picture = self._read(name)
            if sum(mask.size for _, mask in self._loaded.values()) + picture[1].size > _KEPT_PIXELS:
                self._loaded.clear()
            self._loaded[name] = picture
        return self._loaded[name]

    def _read(self, name: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        # Only plain names: a case file must not reach outside the folder it is used with.
        if name not in self.names:
            raise UsageError(f"{self._where} holds no picture named {shown(name)}.")
        path = self.path / name
        where = one_line(str(path))
        try:
            if not path.is_file():  # a pipe would hang
                raise UsageError(f"{where} is no regular file.")
            if path.stat().st_size > LARGEST_FILE:
                raise UsageError(f"{where} has {path.stat().st_size} bytes; at most {LARGEST_FILE} are read.")
            pixels, has_alpha = _decoded(path, where)
        except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error) as error:
            raise UsageError(f"{where} can't be read as a picture: {one_line(str(error), 200)}.") from error
        if not has_alpha:
            return pixels, np.any(pixels <= WHITE_THRESHOLD, axis=2)
        # At most 255² + 127, which 16 bits hold.
        alpha = pixels[..., 3:].astype(np.uint16)
        colours = pixels[..., :3] * alpha
        colours += np.uint16(255) * (np.uint16(255) - alpha) + np.uint16(127)
        return (colours // np.uint16(255)).astype(np.uint8), alpha[..., 0] > 127


def _decoded(path: Path, where: str) -> tuple[NDArray[np.uint8], bool]:
    """RGB or RGBA (h, w, c), and whether it has alpha. Raises UsageError, and what Pillow raises."""
    from PIL import Image

    # Pillow warns of large pictures, which are refused here, and of odd palettes.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(path, formats=sorted(set(_FORMATS.values())))
        except Image.DecompressionBombError as error:
            raise UsageError(f"{where} is too large: at most {MOST_PIXELS} pixels are decoded.") from error
        with image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise UsageError(f"{where} is {width}×{height}; at most {MOST_PIXELS} pixels are decoded.")
            if min(width, height) < SMALLEST_SIDE:
                raise UsageError(f"{where} is {width}×{height}; a side needs at least {SMALLEST_SIDE} pixels.")
            if image.mode.startswith(("I", "F")):
                raise UsageError(f"{where} has more than 8 bits a channel (mode {image.mode}): save it with 8.")
            has_alpha = "A" in image.getbands() or "transparency" in image.info
            return np.asarray(image.convert("RGBA" if has_alpha else "RGB")), has_alpha
