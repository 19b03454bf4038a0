"""The user's own pictures: RGBA, whose alpha is the mask, or RGB on white, masked automatically."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
# A pixel is background where all three channels exceed this, as in GS-LRM's data loading.
WHITE_THRESHOLD = 250


class ImageFolder:
    """The pictures of one folder, by file name.

    Raises:
        UsageError: there is no such folder, or no picture in it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder)
        if not self.path.is_dir():
            raise UsageError(f"--images: there is no folder {self.path}.")
        self.names = tuple(sorted(p.name for p in self.path.iterdir() if p.suffix.lower() in _SUFFIXES))
        if not self.names:
            raise UsageError(f"--images: {self.path} holds no picture ({', '.join(sorted(_SUFFIXES))}).")
        self._loaded: dict[str, tuple[NDArray[np.uint8], NDArray[np.bool_]]] = {}

    def load(self, name: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Colours (h, w, 3), composited over white where there is alpha, and the mask (h, w).

        Raises:
            UsageError: the file is missing, damaged, or under 11 pixels a side.
        """
        if name not in self._loaded:
            self._loaded[name] = self._read(name)
        return self._loaded[name]

    def _read(self, name: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        from PIL import Image

        # Only plain names: a case file must not reach outside the folder it is used with.
        if name not in self.names:
            raise UsageError(f"{self.path} holds no picture named {name!r}.")
        path = self.path / name
        try:
            with Image.open(path) as image:
                has_alpha = "A" in image.getbands() or "transparency" in image.info
                pixels = np.asarray(image.convert("RGBA" if has_alpha else "RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise UsageError(f"{path} can't be read as a picture: {error}.") from error
        if min(pixels.shape[:2]) < 11:
            raise UsageError(f"{path} is {pixels.shape[1]}×{pixels.shape[0]}; a side needs at least 11 pixels.")
        if not has_alpha:
            return pixels, np.any(pixels <= WHITE_THRESHOLD, axis=2)
        alpha = pixels[..., 3:].astype(np.int64)
        colours = (pixels[..., :3].astype(np.int64) * alpha + 255 * (255 - alpha) + 127) // 255
        return colours.astype(np.uint8), alpha[..., 0] > 127
