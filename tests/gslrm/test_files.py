"""What scenes, lists and configurations may not do to who reads them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gslrm.config import ConfigError, load_config
from gslrm.data.cameras import CAMERA_FILE, Frame, read_cameras, write_cameras
from gslrm.data.images import read_png
from gslrm.data.listing import read_scene_list
from gslrm.data.views import SceneError
from gslrm.files import read_text
from gslrm.model.vgg_weights import LARGEST_FILE, read_weights


def test_only_regular_files_of_a_stated_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "long").write_text("x" * 101)
    (tmp_path / "latin").write_bytes(b"\xe9")
    for name, words in {
        "pipe": "no regular file", "zero": "no regular file", "": "cannot be read", "none": "No such file",
        "long": "more than 100 bytes", "latin": "not UTF-8",
    }.items():  # fmt: skip
        with pytest.raises(SceneError, match=words):
            read_text(tmp_path / name, SceneError, 100)


@pytest.mark.parametrize("name", ["../x.png", "/x.png", "a/../../x.png", "\\\\x\\y.png", "C:/x.png", "..\\x.png"])
def test_a_scene_names_pictures_in_its_own_folder(tmp_path: Path, name: str) -> None:
    write_cameras(tmp_path, "x", [Frame(8, 1.0, 1.0, 4.0, 4.0, np.eye(4), name)])
    with pytest.raises(SceneError, match="outside the scene's folder"):
        read_cameras(tmp_path)


@pytest.mark.parametrize("name", ["a\0.png", "a\nb.png", "\ud800.png", "x" * 2000])
def test_names_that_no_file_has_are_refused(tmp_path: Path, name: str) -> None:
    write_cameras(tmp_path, "x", [Frame(8, 1.0, 1.0, 4.0, 4.0, np.eye(4), name)])
    with pytest.raises(SceneError, match="which is no file's name") as caught:
        read_cameras(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    write_cameras(tmp_path, "x", [Frame(8, 1.0, 1.0, 4.0, 4.0, np.eye(4), "a.png")])
    text = (tmp_path / CAMERA_FILE).read_text()
    (tmp_path / CAMERA_FILE).write_text(text.replace('"id"', '"id": "y", "id"'))
    with pytest.raises(SceneError, match="the key 'id' is given twice"):
        read_cameras(tmp_path)
    (tmp_path / CAMERA_FILE).write_text(json.dumps({"id": True, "frames": [1]}))
    with pytest.raises(SceneError, match="id must be text, found true or false"):
        read_cameras(tmp_path)


def test_lists_of_what_no_folder_is_called_are_named(tmp_path: Path) -> None:
    for line in ("x" * 5000, "a\0b", "/dev/zero"):
        (tmp_path / "list.txt").write_text(line)
        with pytest.raises(SceneError, match=r"list\.txt, line 1: .* is no scene folder"):
            read_scene_list(tmp_path / "list.txt")


def test_large_and_deep_pictures_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    Image.new("1", (4097, 4097)).save(tmp_path / "large.png")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(tmp_path / "deep.png")
    for name, words in {
        "large.png": "at most 4096",
        "bomb.png": "bomb|at most",
        "deep.png": "more than 8 bits",
    }.items():
        with pytest.raises(SceneError, match=words):
            read_png(tmp_path / name)


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 25))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, "when its aliases are written out"),
        ("[" * 40 + "]" * 40, "nested more than 32 deep"),
        ("model: " + "x" * 2000, "a value of over 1000 characters"),
        ("model: {transformer: {d: " + "9" * 30 + "}}", "a whole number beyond 64 bits"),
        ("model: !!int ''", "not YAML"),
        ("model: !!bool 3", "not YAML"),
        ("model: !!timestamp x", "not YAML"),
        ('model: "\\x00"\x00', "not YAML"),
        ("# " + "x" * 300_000, "more than 262144 bytes"),
        ("model: {transformer: {d: 1000000, d_head: 100, n_layer: 5000}}", "8589934592 weights or 1024 blocks"),
        ("model: {image_tokenizer: {image_size: 8192}}", "expected at most 4096 px"),
    ],
)
def test_configurations_that_blow_up_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        load_config(tmp_path / "a.yaml")
    assert "\n" not in str(caught.value)


def test_weights_that_unpack_to_more_than_any_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    savemat = pytest.importorskip("scipy.io", reason="scipy is not installed").savemat
    savemat(tmp_path / "a.mat", {"layers": np.zeros((2000, 1000))}, do_compression=True)
    assert (tmp_path / "a.mat").stat().st_size < 100_000
    monkeypatch.setattr("gslrm.model.vgg_weights.LARGEST_FILE", 10**6)
    with pytest.raises(ValueError, match="what is compressed in it is longer"):
        read_weights(tmp_path / "a.mat")
    with (tmp_path / "a.safetensors").open("wb") as file:
        file.truncate(LARGEST_FILE + 1)
    with pytest.raises(ValueError, match="which VGG19's weights don't need"):
        read_weights(tmp_path / "a.safetensors")
