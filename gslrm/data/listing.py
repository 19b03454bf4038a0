"""List files: one scene folder a line."""

from __future__ import annotations

from pathlib import Path

from gslrm.data.cameras import CAMERA_FILE
from gslrm.data.views import SceneError
from gslrm.files import is_file, one_line, read_text

LARGEST_LIST = 2**24
"""Bytes: some 100 000 scenes."""


def read_scene_list(path: Path | str) -> tuple[Path, ...]:
    """The scene folders that a list file names, in its order.

    A relative folder is relative to the list file; a list may name folders anywhere. Blank lines and lines that
    start with # are skipped.
    Raises SceneError for a list that is missing, is no text or names no scene, and for a line that names no
    scene folder.
    """
    path = Path(path)
    lines = read_text(path, SceneError, LARGEST_LIST).splitlines()
    folders = []
    for number, line in enumerate(lines, start=1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        if not is_file(path.parent / entry / CAMERA_FILE):
            named = one_line(entry, 200)
            raise SceneError(f"{path}, line {number}: {named} is no scene folder, it holds no {CAMERA_FILE}")
        folders.append(path.parent / entry)
    if not folders:
        raise SceneError(f"{path}: the scene list names no scene")
    return tuple(folders)


def scene_folders(path: Path | str) -> tuple[Path, ...]:
    """The folder itself for a scene folder, the folders that it names for a list file."""
    path = Path(path)
    if is_file(path / CAMERA_FILE):
        return (path,)
    if path.is_dir():
        raise SceneError(f"{path}: is no scene folder, it holds no {CAMERA_FILE}")
    return read_scene_list(path)
