"""List files: one scene folder a line."""

from __future__ import annotations

from pathlib import Path

from gslrm.data.cameras import CAMERA_FILE
from gslrm.data.views import SceneError


def read_scene_list(path: Path | str) -> tuple[Path, ...]:
    """The scene folders that a list file names, in its order.

    A relative folder is relative to the list file. Blank lines and lines that start with # are skipped.
    Raises SceneError for a list that is missing, is no text or names no scene, and for a line that names no
    scene folder.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise SceneError(f"{path}: the scene list cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SceneError(f"{path}: the scene list is not UTF-8 text") from None
    folders = []
    for number, line in enumerate(lines, start=1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        if "\0" in entry or not (path.parent / entry / CAMERA_FILE).is_file():
            raise SceneError(f"{path}, line {number}: {entry} is no scene folder, it holds no {CAMERA_FILE}")
        folders.append(path.parent / entry)
    if not folders:
        raise SceneError(f"{path}: the scene list names no scene")
    return tuple(folders)


def scene_folders(path: Path | str) -> tuple[Path, ...]:
    """The folder itself for a scene folder, the folders that it names for a list file."""
    path = Path(path)
    if (path / CAMERA_FILE).is_file():
        return (path,)
    if path.is_dir():
        raise SceneError(f"{path}: is no scene folder, it holds no {CAMERA_FILE}")
    return read_scene_list(path)
