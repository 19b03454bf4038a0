from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.cases.descriptors import LossCase, Mask, MaskKind, Picture, PictureKind
from harness.cases.image_folder import ImageFolder
from harness.cases.tensors import build_pair
from harness.errors import UsageError


def _write(folder: Path) -> None:
    rgba = np.zeros((20, 20, 4), np.uint8)
    rgba[5:15, 5:15] = (200, 100, 50, 255)
    Image.fromarray(rgba).save(folder / "rgba.png")
    rgb = np.full((20, 20, 3), 255, np.uint8)
    rgb[5:15, 5:10] = (10, 250, 255)
    Image.fromarray(rgb).save(folder / "rgb.png")


def test_alpha_is_the_mask_over_white(tmp_path: Path) -> None:
    _write(tmp_path)
    colours, mask = ImageFolder(tmp_path).load("rgba.png")
    assert mask.sum() == 100
    assert (colours[0, 0] == 255).all()
    assert (colours[8, 8] == (200, 100, 50)).all()


def test_white_is_the_background_of_rgb(tmp_path: Path) -> None:
    _write(tmp_path)
    _, mask = ImageFolder(tmp_path).load("rgb.png")
    assert mask.sum() == 50


def test_a_case_takes_the_pictures_own_mask(tmp_path: Path) -> None:
    _write(tmp_path)
    case = LossCase(20, 20, picture=Picture(PictureKind.FILE, 0, "rgba.png"), mask=Mask(MaskKind.OWN))
    pair = build_pair(case, ImageFolder(tmp_path))
    assert pair.mask.sum() == 100
    assert pair.target[0, :, 8, 8].mul(255).round().tolist() == [200, 100, 50]


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder"):
        ImageFolder(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="holds no picture"):
        ImageFolder(tmp_path)
    _write(tmp_path)
    whole = (tmp_path / "rgb.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (10, 30)).save(tmp_path / "thin.png")
    folder = ImageFolder(tmp_path)
    for name, words in (("cut.png", "can't be read"), ("thin.png", "at least 11"), ("../x.png", "no picture named")):
        with pytest.raises(UsageError, match=words):
            folder.load(name)
    with pytest.raises(UsageError, match="--images"):
        build_pair(LossCase(picture=Picture(PictureKind.FILE, 0, "rgb.png")))
