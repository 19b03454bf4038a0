"""The side-by-side sheets: what is where, what colour an error has, and that a file is never half written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gslrm.rendering.pictures import heat_map, side_by_side, write_side_by_side


def grey(value: float, size: int = 1) -> torch.Tensor:
    return torch.full((1, 3, size, size), value)


@pytest.mark.parametrize(
    ("error", "colour"),
    [
        (0.0, (0, 0, 0)),
        (0.5 / 3, (1, 0, 0)),
        (1 / 3, (1, 1, 0)),
        (0.5, (1, 1, 1)),
        (1.0, (1, 1, 1)),
        (np.nan, (1, 0, 1)),
    ],
)
def test_the_heat_map_goes_from_black_through_red_and_yellow_to_white(
    error: float, colour: tuple[int, int, int]
) -> None:
    torch.testing.assert_close(heat_map(grey(0.0), grey(error))[0, :, 0, 0], torch.tensor(colour).float())


def test_target_rendering_and_error_stand_in_this_order_a_row_a_view() -> None:
    target = torch.stack([torch.full((4, 5, 6), 0.0), torch.full((4, 5, 6), 1.0)])  # with a mask as 4th channel
    rendering = torch.full((2, 3, 5, 6), 1.0)
    rendering[0, :, 2, 3] = torch.nan
    sheet = side_by_side(target, rendering)
    assert sheet.shape == (5 + 2 + 5, 6 + 2 + 6 + 2 + 6, 3)
    rows = [sheet[top, [0, 8, 16]].tolist() for top in (0, 7)]
    black, white = [0] * 3, [255] * 3
    assert rows == [[black, white, white], [white, white, black]]
    assert sheet[2, 8 + 3].tolist() == sheet[2, 16 + 3].tolist() == [255, 0, 255]
    assert sheet[5].unique().tolist() == [128]


def test_a_written_sheet_reads_back_the_same(tmp_path: Path) -> None:
    target, rendering = torch.rand(2, 3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "step.png"
    path.write_text("an older file")
    write_side_by_side(path, target, rendering.bfloat16())
    assert np.array_equal(np.asarray(Image.open(path)), side_by_side(target, rendering.bfloat16()).numpy())
    assert [entry.name for entry in tmp_path.iterdir()] == ["step.png"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Image.Image, file: object, format: str) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    path = tmp_path / "step.png"
    path.write_text("an older file")
    with pytest.raises(OSError, match="disk full"):
        write_side_by_side(path, grey(0.0, 8), grey(1.0, 8))
    assert path.read_text() == "an older file"
    assert [entry.name for entry in tmp_path.iterdir()] == ["step.png"]


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="differ or are empty"):
        side_by_side(grey(0.0, 4), grey(0.0, 5))
    with pytest.raises(ValueError, match=r"expected \(v, 3 or 4, h, w\)"):
        side_by_side(grey(0.0)[0], grey(0.0)[0])
    with pytest.raises(ValueError, match=r"written as \.png"):
        write_side_by_side(tmp_path / "a.jpg", grey(0.0), grey(0.0))
