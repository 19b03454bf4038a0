"""`opencv_cameras.json`: the cameras of a scene, and the files that hold their pictures.

The file is `{"id": name, "frames": [frame, ...]}`, where a frame has w, h, fx, fy, cx, cy in pixels, w2c (the
world-to-camera matrix, 4 rows of 4) and file_path (relative to the file's folder, and in it). Other keys are left
alone.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from gslrm.data.views import SceneError
from gslrm.files import one_line, read_text

CAMERA_FILE = "opencv_cameras.json"
LARGEST_CAMERA_FILE = 2**22
"""Bytes: some thousands of cameras."""
RIGID_TOLERANCE = 1e-3
"""How far R Rᵀ may be from the identity: more than float32 rounding, less than any real scaling or shear."""


@dataclass(frozen=True)
class Frame:
    """One picture's camera.

    size: side of the square picture, px.  fx, fy, cx, cy: px.  w2c: rigid, world-to-camera.
    file_path: as written in the file.
    """

    size: int
    fx: float
    fy: float
    cx: float
    cy: float
    w2c: Float64[np.ndarray, "4 4"]
    file_path: str

    def c2w(self) -> Float64[np.ndarray, "4 4"]:
        """The camera-to-world matrix, the inverse of w2c."""
        return np.linalg.inv(self.w2c)


def read_cameras(folder: Path) -> tuple[str, tuple[Frame, ...]]:
    """The scene's id and frames. Raises SceneError naming the file, the frame and the key that is wrong."""
    path = folder / CAMERA_FILE
    if not folder.is_dir():
        raise SceneError(f"{folder}: no such scene folder")
    if not path.exists():
        raise SceneError(f"{path}: no such file; a scene folder holds one")
    text = read_text(path, SceneError, LARGEST_CAMERA_FILE)
    try:
        document = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise SceneError(f"{path}: not a JSON file: {one_line(str(error))}") from None
    if not isinstance(document, dict):
        raise SceneError(f"{path}: expected an object with keys id and frames, found {_kind(document)}")
    frames = _value(document, "frames", str(path))
    if not isinstance(frames, list) or not frames:
        raise SceneError(f"{path}: frames must be a list of at least one frame, found {_kind(frames)}")
    name = document.get("id", folder.name)
    if not isinstance(name, str | int) or isinstance(name, bool):
        raise SceneError(f"{path}: id must be text, found {_kind(name)}")
    return one_line(str(name)), tuple(_frame(frame, f"{path}: frame {i}") for i, frame in enumerate(frames))


def write_cameras(folder: Path, name: str, frames: Sequence[Frame]) -> None:
    """Write `opencv_cameras.json`, to be read by `read_cameras`."""
    document = {
        "id": name,
        "frames": [
            {
                "w": f.size,
                "h": f.size,
                "fx": f.fx,
                "fy": f.fy,
                "cx": f.cx,
                "cy": f.cy,
                "w2c": f.w2c.tolist(),
                "file_path": f.file_path,
            }
            for f in frames
        ],
    }
    (folder / CAMERA_FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _frame(raw: Any, where: str) -> Frame:
    if not isinstance(raw, dict):
        raise SceneError(f"{where}: expected an object, found {_kind(raw)}")
    width, height, fx, fy, cx, cy = (_number(raw, key, where) for key in ("w", "h", "fx", "fy", "cx", "cy"))
    for key, value in (("w", width), ("h", height)):
        if value < 1 or value != int(value):
            raise SceneError(f"{where}: {key} is {value:g}, expected a whole number of pixels above 0")
    if width != height:
        raise SceneError(f"{where}: w is {width:g} and h is {height:g}, expected a square picture")
    for key, value in (("fx", fx), ("fy", fy)):
        if value <= 0:
            raise SceneError(f"{where}: {key} is {value:g} px, expected a focal length above 0")
    file_path = _value(raw, "file_path", where)
    if not isinstance(file_path, str) or not file_path:
        raise SceneError(f"{where}: file_path must be a file's name, found {_kind(file_path)}")
    if not file_path.isprintable() or len(file_path) > 1000:
        raise SceneError(f"{where}: file_path is {one_line(repr(file_path), 80)}, which is no file's name")
    if _leads_out(file_path):
        raise SceneError(f"{where}: file_path is {one_line(file_path, 80)}, which lies outside the scene's folder")
    return Frame(int(width), fx, fy, cx, cy, _rigid(_value(raw, "w2c", where), where), file_path)


def _leads_out(file_path: str) -> bool:
    """Whether a name leads out of the folder that it is relative to, on this system or another."""
    parts = file_path.replace("\\", "/").split("/")
    return ".." in parts or not parts[0] or parts[0].endswith(":")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key {name!r} is given twice")
    return keys


def _rigid(raw: Any, where: str) -> Float64[np.ndarray, "4 4"]:
    """A 4×4 matrix, checked to be a rotation and a translation."""
    rows = raw if isinstance(raw, list) else []
    if len(rows) != 4 or any(not isinstance(row, list) or len(row) != 4 for row in rows):
        raise SceneError(f"{where}: w2c must be 4 rows of 4 numbers")
    matrix = np.array([[_finite(x, f"w2c[{i}][{j}]", where) for j, x in enumerate(r)] for i, r in enumerate(rows)])
    rotation = matrix[:3, :3]
    with np.errstate(over="ignore", invalid="ignore"):
        determinant = float(np.linalg.det(rotation))
        skew = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    if np.abs(matrix[3] - [0, 0, 0, 1]).max() > RIGID_TOLERANCE:
        last = " ".join(f"{x:g}" for x in matrix[3])
        raise SceneError(f"{where}: the last row of w2c is {last}, expected 0 0 0 1")
    if abs(determinant) < 1e-9:
        raise SceneError(f"{where}: w2c is singular, it has no inverse")
    if not skew <= RIGID_TOLERANCE:
        raise SceneError(
            f"{where}: w2c is not rigid: its 3×3 part differs from a rotation by {skew:.2g} "
            f"(R Rᵀ − 1; at most {RIGID_TOLERANCE:g} is allowed)"
        )
    if determinant < 0:
        raise SceneError(f"{where}: w2c mirrors the world (determinant −1), expected a rotation")
    return matrix


def _value(raw: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in raw:
        raise SceneError(f"{where}: key {key!r} is missing")
    return raw[key]


def _number(raw: Mapping[str, Any], key: str, where: str) -> float:
    return _finite(_value(raw, key, where), key, where)


def _finite(value: Any, key: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SceneError(f"{where}: {key} must be a number, found {_kind(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    # float32 is what cameras are kept in.
    if not abs(number) < 3.4e38:
        raise SceneError(f"{where}: {key} is {number}, expected a finite number")
    return number


def _kind(value: Any) -> str:
    if isinstance(value, dict | list) and not value:
        return "an empty list" if isinstance(value, list) else "an empty object"
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
