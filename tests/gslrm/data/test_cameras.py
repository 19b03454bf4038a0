"""The camera file: what it says is read, and what is wrong with it is named."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gslrm.data.cameras import CAMERA_FILE, read_cameras
from gslrm.data.synthetic import look_at_origin
from gslrm.data.views import SceneError


def document() -> dict[str, Any]:
    frame = {"w": 8, "h": 8, "fx": 9.0, "fy": 10, "cx": 4.0, "cy": 3.5, "file_path": "a.png"}
    return {"id": "two", "frames": [{**frame, "w2c": look_at_origin(x).tolist()} for x in (0.0, 1.0)]}


def read(folder: Path, content: Any) -> Any:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / CAMERA_FILE).write_text(text, encoding="utf-8")
    return read_cameras(folder)


def test_frames_are_as_the_file_says(tmp_path: Path) -> None:
    name, frames = read(tmp_path, {**document(), "extra": 1})
    assert name == "two"
    first, second = frames
    assert (first.size, first.fx, first.fy, first.cx, first.cy) == (8, 9.0, 10.0, 4.0, 3.5)
    assert first.file_path == "a.png"
    np.testing.assert_array_equal(second.w2c, look_at_origin(1.0))
    np.testing.assert_allclose(second.c2w() @ second.w2c, np.eye(4), atol=1e-12)


def test_a_scene_without_an_id_is_named_by_its_folder(tmp_path: Path) -> None:
    content = document()
    del content["id"]
    assert read(tmp_path, content)[0] == tmp_path.name


def _frame(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["frames"][1].update(changes)


def _w2c(change: Callable[[np.ndarray], Any]) -> Callable[[dict[str, Any]], None]:
    def apply(content: dict[str, Any]) -> None:
        frame = content["frames"][1]
        matrix = np.array(frame["w2c"])
        change(matrix)
        frame["w2c"] = matrix.tolist()

    return apply


def _scale_row(matrix: np.ndarray) -> None:
    matrix[0, :3] *= 1.01


def _mirror(matrix: np.ndarray) -> None:
    matrix[0, :3] *= -1


def _flatten(matrix: np.ndarray) -> None:
    matrix[2, :3] = matrix[1, :3]


def _put(row: int, column: int, value: float) -> Callable[[np.ndarray], None]:
    return lambda matrix: matrix.__setitem__((row, column), value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_frame(w=7), "w is 7 and h is 8, expected a square picture"),
        (_frame(w=0), "w is 0, expected a whole number"),
        (_frame(h=8.5), "h is 8.5, expected a whole number"),
        (_frame(fx=0), "fx is 0 px, expected a focal length above 0"),
        (_frame(fy=-3), "fy is -3 px"),
        (_frame(cx=math.nan), "cx is nan, expected a finite number"),
        (_frame(cy=10**400), "cy is inf"),
        (_frame(cx=1e39), "cx is 1e\\+39"),
        (_frame(cx="4"), "cx must be a number, found text"),
        (_frame(cx=True), "cx must be a number, found true or false"),
        (_frame(file_path=3), "file_path must be a file's name, found a number"),
        (_frame(w2c=[[1, 0], [0, 1]]), "w2c must be 4 rows of 4 numbers"),
        (_frame(w2c=None), "w2c must be 4 rows of 4 numbers"),
        (_w2c(_put(1, 2, math.nan)), r"w2c\[1\]\[2\] is nan"),
        (_w2c(_put(3, 0, 1.0)), "the last row of w2c is 1 0 0 1"),
        (_w2c(_flatten), "w2c is singular"),
        (_w2c(_put(0, 0, 1e200)), r"w2c\[0\]\[0\] is 1e\+200"),
        (_w2c(_scale_row), "w2c is not rigid"),
        (_w2c(_mirror), "w2c mirrors the world"),
        (lambda c: c["frames"].__setitem__(1, 5), "expected an object, found a number"),
    ],
)
def test_a_wrong_frame_is_named(tmp_path: Path, spoil: Callable[[dict[str, Any]], None], message: str) -> None:
    content = document()
    spoil(content)
    with pytest.raises(SceneError, match=rf"opencv_cameras\.json: frame 1: {message}"):
        read(tmp_path, content)


@pytest.mark.parametrize("key", ["w", "h", "fx", "fy", "cx", "cy", "w2c", "file_path"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    content = document()
    del content["frames"][1][key]
    with pytest.raises(SceneError, match=rf"frame 1: key '{key}' is missing"):
        read(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a JSON file"),
        ("[" * 100_000, "not a JSON file"),
        ("[]", "expected an object with keys id and frames, found an empty list"),
        ("{}", "key 'frames' is missing"),
        ('{"frames": []}', "frames must be a list of at least one frame, found an empty list"),
        ('{"frames": 3}', "found a number"),
        ('{"id": [1], "frames": [1]}', "id must be text, found a list"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(SceneError, match=rf"opencv_cameras\.json: .*{message}"):
        read(tmp_path, content)


def test_a_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"opencv_cameras\.json: no such file"):
        read_cameras(tmp_path)
    with pytest.raises(SceneError, match="nowhere: no such scene folder"):
        read_cameras(tmp_path / "nowhere")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(key=st.sampled_from(["w", "h", "fx", "cx", "w2c", "file_path"]), value=_json)
def test_any_value_is_read_or_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any
) -> None:
    content = document()
    content["frames"][0][key] = value
    try:
        _, frames = read(tmp_path_factory.getbasetemp(), content)
    except SceneError as error:
        said = str(error)
    else:
        assert np.isfinite(frames[0].c2w()).all()
        return
    assert f"frame 0: {key}" in said or f"frame 0: key '{key}'" in said
