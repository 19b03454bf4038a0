"""Pictures: compositing, masks, resizing, and files that are not what they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gslrm.data.images import automatic_mask, background_rgb, composite, masked_image, read_png, resize
from gslrm.data.views import SceneError

DATA = Path(__file__).parents[3].parent / "shared" / "data"


def save(path: Path, pixels: np.ndarray, mode: str | None = None) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)
    return path


def noise(channels: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (size, size, channels), dtype=np.uint8)


def test_rgba_is_put_over_the_background() -> None:
    rgba = np.array([200, 100, 0, 51], dtype=np.uint8)[:, None, None]
    image = composite(rgba, (1.0, 0.5, 0.0))[:, 0, 0]
    expected = [0.2 * 200 / 255 + 0.8, 0.2 * 100 / 255 + 0.4, 0.0, 0.2]
    np.testing.assert_allclose(image, expected, rtol=1e-6)


def test_background_is_where_all_three_channels_exceed_the_threshold() -> None:
    rgb = np.array([[251, 251, 251], [250, 255, 255], [255, 255, 250], [255, 255, 255]], dtype=np.uint8)
    assert automatic_mask(rgb.T[:, None, :]).ravel().tolist() == [0, 1, 1, 0]
    assert automatic_mask(rgb.T[:, None, :], threshold=251).ravel().tolist() == [1, 1, 1, 0]


def test_rgb_keeps_its_background_and_gets_a_mask() -> None:
    pixels = np.full((3, 2, 2), 255, dtype=np.uint8)
    pixels[:, 0, 0] = 40
    image = masked_image(pixels, (0.0, 0.0, 0.0))
    assert image[3].tolist() == [[1, 0], [0, 0]]
    assert (image[:3, 1] == 1).all()


def test_resizing_keeps_constants_means_and_the_range() -> None:
    np.testing.assert_allclose(resize(np.full((4, 31, 31), 0.3, np.float32), 8), 0.3, rtol=1e-6)
    picture = np.zeros((1, 64, 64), np.float32)
    picture[:, :, 33:] = 1.0  # an edge off the grid of the small picture: Lanczos rings on both sides
    small = resize(picture, 16)
    assert small.min() == 0
    assert small.max() == 1
    assert abs(small.mean() - picture.mean()) < 0.01
    # The edge is at column 33 / 4 = 8.25 of the small picture.
    assert (small[0, :, :8] < 0.2).all()
    assert (small[0, :, 9:] > 0.8).all()


@pytest.mark.parametrize("side", [12, 48])
def test_resizing_is_lanczos_of_three_lobes(side: int) -> None:
    row = np.random.default_rng(0).uniform(0.4, 0.6, 36)  # far enough from 0 and 1 for nothing to be clamped
    ratio = 36 / side
    widened = max(ratio, 1.0)  # a smaller picture is filtered at its own pixels' width
    centres = (np.arange(side) + 0.5) * ratio
    x = (np.arange(36) + 0.5 - centres[:, None]) / widened
    weights = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)
    expected = weights @ row / weights.sum(1)
    resized = resize(np.tile(row.astype(np.float32), (1, 36, 1)), side)
    np.testing.assert_allclose(resized[0], np.tile(expected, (side, 1)), atol=1e-5)


def test_resizing_to_the_same_size_changes_nothing() -> None:
    picture = np.random.default_rng(0).random((3, 9, 9), dtype=np.float32)
    np.testing.assert_array_equal(resize(picture, 9), picture)


def test_a_png_is_read_exactly(tmp_path: Path) -> None:
    for channels in (3, 4):
        pixels = noise(channels)
        read = read_png(save(tmp_path / "a.png", pixels), 32)
        np.testing.assert_array_equal(read, pixels.transpose(2, 0, 1))


@pytest.mark.parametrize(("mode", "channels"), [("L", 3), ("LA", 4), ("P", 3), ("1", 3)])
def test_other_modes_are_widened(tmp_path: Path, mode: str, channels: int) -> None:
    assert read_png(save(tmp_path / "a.png", noise(3), mode)).shape == (channels, 32, 32)


def test_every_truncation_of_a_png_is_refused(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.png", noise(4)).read_bytes()
    broken = tmp_path / "broken.png"
    # What follows the pixels: two checksums of 4 bytes and the last chunk of 12, which holds nothing.
    for length in [*range(80), *range(80, len(whole) - 20, 97), len(whole) - 21]:
        broken.write_bytes(whole[:length])
        with pytest.raises(SceneError, match=r"broken\.png: not a whole PNG image"):
            read_png(broken)


def test_a_damaged_png_is_read_or_refused_but_never_raises_otherwise(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.png", noise(3, 8)).read_bytes()
    broken, refused = tmp_path / "broken.png", 0
    for position in range(len(whole)):
        broken.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        try:
            read_png(broken, 8)
        except SceneError:
            refused += 1
    assert refused > len(whole) / 2


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"none\.png: no such image"):
        read_png(tmp_path / "none.png")
    with pytest.raises(SceneError, match="no such image"):
        read_png(tmp_path)
    with pytest.raises(SceneError, match=r"a\.png: the image is 32 × 31 px, expected a square one"):
        read_png(save(tmp_path / "a.png", noise(3)[:31]))
    with pytest.raises(SceneError, match=r"b\.png: the image is 32 px wide, but its camera's w is 64"):
        read_png(save(tmp_path / "b.png", noise(3)), 64)
    with pytest.raises(SceneError, match=r"c\.png: the image has more than 8 bits a channel"):
        read_png(save(tmp_path / "c.png", np.zeros((4, 4), np.uint16)))
    Image.fromarray(noise(3)).save(tmp_path / "d.png", format="JPEG")
    with pytest.raises(SceneError, match=r"d\.png: not a whole PNG image"):
        read_png(tmp_path / "d.png")


def test_colours_are_names_or_numbers() -> None:
    assert background_rgb("white") == (1.0, 1.0, 1.0)
    assert background_rgb([0, 0.5, 1]) == (0.0, 0.5, 1.0)
    for wrong in ("pink", [0, 0, 1.5], [0.0, 0.0], [0.0, 0.0, float("nan")]):
        with pytest.raises(ValueError, match="background is"):
            background_rgb(wrong)


@pytest.mark.skipif(not (DATA / "mouse_views").is_dir(), reason="the real mouse views are not here")
def test_the_mask_of_a_real_picture_on_white_is_its_animal() -> None:
    for path in sorted((DATA / "mouse_views").glob("*.png")):
        mask = automatic_mask(read_png(path))[0]
        assert 0.01 < mask.mean() < 0.6
        assert mask[0].max() == 0  # nothing of it touches the upper border
