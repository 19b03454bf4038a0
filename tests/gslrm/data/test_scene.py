"""Scene folders and list files, written by the generator and read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gslrm.data import load_scene, read_scene_list, scene_folders, synthetic_scene
from gslrm.data.cameras import CAMERA_FILE
from gslrm.data.views import SceneError

DATA = Path(__file__).parents[3].parent / "shared" / "data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    synthetic_scene(3, 32, folder=tmp_path / "scene")
    return tmp_path / "scene"


def edit_frame(folder: Path, frame: int, **changes: object) -> None:
    content = json.loads((folder / CAMERA_FILE).read_text())
    content["frames"][frame].update(changes)
    (folder / CAMERA_FILE).write_text(json.dumps(content))


def test_a_scene_comes_back_as_it_was_written(folder: Path) -> None:
    written, read = synthetic_scene(3, 32), load_scene(folder)
    for name in ("images", "c2w", "intrinsics"):
        assert torch.equal(getattr(read, name), getattr(written, name)), name
    assert read.ids == written.ids
    assert read.scene == "synthetic_0"


def test_intrinsics_follow_the_size(folder: Path) -> None:
    edit_frame(folder, 0, cx=10.0, cy=20.0, fx=30.0, fy=60.0)
    views = load_scene(folder, 16)
    assert views.images.shape == (3, 4, 16, 16)
    assert views.intrinsics[0].tolist() == [15.0, 30.0, 5.0, 10.0]


def test_c2w_is_the_inverse_of_w2c(folder: Path) -> None:
    w2c = [f["w2c"] for f in json.loads((folder / CAMERA_FILE).read_text())["frames"]]
    product = load_scene(folder).c2w.double() @ torch.tensor(w2c, dtype=torch.float64)
    torch.testing.assert_close(product, torch.eye(4).double().expand(3, 4, 4), atol=1e-6, rtol=0)


def test_the_background_is_chosen_and_the_mask_stays(folder: Path) -> None:
    white, black = load_scene(folder), load_scene(folder, background="black")
    assert white.mask is not None
    assert black.mask is not None
    assert torch.equal(white.mask, black.mask)
    empty = white.mask.expand(-1, 3, -1, -1) == 0
    assert (white.rgb[empty] == 1).all()
    assert (black.rgb[empty] == 0).all()
    assert empty.any()


def test_remove_alpha_leaves_the_picture_alone(folder: Path) -> None:
    bare = load_scene(folder, remove_alpha=True)
    assert bare.mask is None
    assert torch.equal(bare.images, load_scene(folder).rgb)


def test_rgb_pictures_get_a_mask_like_their_alpha(folder: Path) -> None:
    alpha = load_scene(folder).mask
    for path in (folder / "images").iterdir():
        rgba = Image.open(path)
        white = Image.new("RGBA", rgba.size, "white")
        Image.alpha_composite(white, rgba).convert("RGB").save(path)
    mask = load_scene(folder).mask
    assert mask is not None
    assert alpha is not None
    assert ((mask > 0.5) != (alpha > 0.5)).float().mean() < 0.05
    assert load_scene(folder, mask_threshold=255).mask.min() == 1  # type: ignore[union-attr]


def test_views_are_chosen_in_order(folder: Path) -> None:
    views = load_scene(folder, views=[2, 0])
    assert views.ids == ("images/cam_002.png", "images/cam_000.png")
    assert torch.equal(views.images[0], load_scene(folder).images[2])
    with pytest.raises(SceneError, match="has views 0 to 2, but not 3"):
        load_scene(folder, views=[3])
    with pytest.raises(ValueError, match="no views"):
        load_scene(folder, views=[])


def test_sizes_that_differ_need_a_size(folder: Path) -> None:
    path = folder / "images" / "cam_001.png"
    Image.open(path).resize((16, 16)).save(path)
    with pytest.raises(SceneError, match=r"cam_001\.png: the image is 16 px wide, but its camera's w is 32"):
        load_scene(folder)
    edit_frame(folder, 1, w=16, h=16)
    with pytest.raises(SceneError, match=r"cam_001\.png: w is 16, but images/cam_000\.png has 32"):
        load_scene(folder)
    assert load_scene(folder, 16).images.shape[-1] == 16


def test_missing_pictures_are_named(folder: Path) -> None:
    (folder / "images" / "cam_002.png").unlink()
    with pytest.raises(SceneError, match=r"cam_002\.png: no such image"):
        load_scene(folder)


@pytest.mark.parametrize(("size", "threshold"), [(0, 250), (8, 256), (8, -1)])
def test_arguments_out_of_range_are_refused(folder: Path, size: int, threshold: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        load_scene(folder, size, mask_threshold=threshold)


def test_a_list_names_folders_relative_to_itself(folder: Path) -> None:
    other = folder.parent / "other scene"
    synthetic_scene(1, 8, folder=other)
    listing = folder.parent / "train.txt"
    listing.write_text(f"# a comment\n\n  scene  \r\n{other}\nother scene/\n")
    assert read_scene_list(listing) == (folder, other, other)
    assert scene_folders(listing) == (folder, other, other)
    assert scene_folders(folder) == (folder,)


def test_wrong_lists_are_named(folder: Path) -> None:
    listing = folder.parent / "train.txt"
    with pytest.raises(SceneError, match=r"train\.txt: cannot be read"):
        read_scene_list(listing)
    listing.write_text("# none\n")
    with pytest.raises(SceneError, match=r"train\.txt: the scene list names no scene"):
        read_scene_list(listing)
    listing.write_text("scene\nscnee\n")
    with pytest.raises(SceneError, match=r"train\.txt, line 2: scnee is no scene folder"):
        read_scene_list(listing)
    listing.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SceneError, match=r"train\.txt: not UTF-8 text"):
        read_scene_list(listing)
    with pytest.raises(SceneError, match="is no scene folder"):
        scene_folders(folder / "images")


@pytest.mark.skipif(not (DATA / "facelift_head").is_dir(), reason="the real head scene is not here")
def test_the_real_head_scene_fits() -> None:
    views = load_scene(DATA / "facelift_head", 64)
    assert views.images.shape == (8, 4, 64, 64)
    assert views.mask is not None
    torch.testing.assert_close(views.c2w[:, :3, 3].norm(dim=1), torch.full((8,), 2.7), atol=1e-4, rtol=0)
    # All cameras look at the origin: it is drawn in the middle of every picture.
    origin = torch.linalg.inv(views.c2w)[:, :3, 3]
    centre = views.intrinsics[:, :2] * origin[:, :2] / origin[:, 2:] + views.intrinsics[:, 2:]
    torch.testing.assert_close(centre, torch.full((8, 2), 32.0), atol=1e-3, rtol=0)
    assert 0.2 < float(views.mask.mean()) < 0.5
    assert np.isclose(float(views.rgb[:, :, 0].mean()), 1.0)  # the row above the head is white
