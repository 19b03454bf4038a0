"""Lines of a script, as people are told them, and the counters that it keeps."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any

import torch

_LIBRARIES = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))
_INSTALLED = ("/site-packages/", "/dist-packages/")
_NOWHERE = ("<frozen", "<string>", "<attrs", "/runpy.py")
_MOST_NUMBERS = 1000
_MOST_NAMES = 200


@dataclass(frozen=True)
class Script:
    """What is rehearsed: a file, or a module as ``python -m`` runs it, with its arguments."""

    path: str = ""
    module: str = ""
    arguments: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """As it is called."""
        name = f"-m {self.module}" if self.module else self.path
        return " ".join([name, *self.arguments])


class Places:
    """Tells the script's own lines from those of libraries: its own are in its folder, or in its module's package."""

    def __init__(self, script: Script) -> None:
        folder = Path(script.path).resolve().parent if script.path else _folder_of(script.module)
        self._folder = f"{folder}/"
        self._files: dict[str, tuple[str, bool]] = {}

    @property
    def folder(self) -> str:
        """Where the script's own files are."""
        return self._folder

    def here(self) -> str:
        """The innermost of the script's own lines that led here, else of whatever library it uses."""
        library, files = "", self._files
        # Not by `_first`: this is asked at every call.
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            file = frame.f_code.co_filename
            told, is_own = files.get(file) or self._told(file)
            if is_own:
                return f"{told}:{frame.f_lineno}"
            if told and not library:
                library = f"{told}:{frame.f_lineno}"
            frame = frame.f_back
        return library

    def at(self, frame: FrameType | None) -> str:
        """The innermost of the script's own lines that led to this frame, of any thread."""
        return self._first((f.f_code, f.f_lineno) for f in _outwards(frame))

    def is_own(self, frame: FrameType) -> bool:
        """Whether it runs a line of the script's own."""
        file = frame.f_code.co_filename
        return (self._files.get(file) or self._told(file))[1]

    def of(self, trace: TracebackType | None) -> str:
        """The line that an exception came through last."""
        walk = list(traceback.walk_tb(trace))
        return self._first((frame.f_code, line) for frame, line in reversed(walk))

    def numbers(self) -> dict[str, int]:
        """The whole numbers that the script keeps in its variables, and in its own objects', by name."""
        found: dict[str, int] = {}
        seen: set[int] = set()
        for frame in _stack():
            if self._is_own(frame.f_code.co_filename) and len(found) < _MOST_NUMBERS:
                # From a copy: a frame's variables may be a view.
                self._numbers_in(dict(frame.f_locals), "", 2, found, seen)
        return found

    def _numbers_in(
        self, values: Mapping[str, Any], prefix: str, depth: int, found: dict[str, int], seen: set[int]
    ) -> None:
        for name, value in list(values.items())[:_MOST_NAMES]:
            if type(value) is int:
                found.setdefault(f"{prefix}{name}", value)
            elif depth and id(value) not in seen and self._is_own_class(type(value)):
                seen.add(id(value))
                with contextlib.suppress(AttributeError):  # a class with slots
                    inside = object.__getattribute__(value, "__dict__")
                    self._numbers_in(inside, f"{prefix}{name}.", depth - 1, found, seen)

    def _is_own_class(self, kind: type) -> bool:
        file = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
        return kind.__module__ == "__main__" or self._is_own(file)

    def _is_own(self, file: str) -> bool:
        inside = file.startswith(self._folder) or (bool(file) and not file.startswith(("/", "<")))
        return inside and not file.startswith(_LIBRARIES) and not any(part in file for part in _INSTALLED)

    def _first(self, lines: Iterator[tuple[CodeType, int]]) -> str:
        library = ""
        for code, line in lines:
            told, is_own = self._files.get(code.co_filename) or self._told(code.co_filename)
            if is_own:
                return f"{told}:{line}"
            if told and not library:
                library = f"{told}:{line}"
        return library

    def _told(self, file: str) -> tuple[str, bool]:
        """How a file is named, empty for one that never is, and whether it is the script's own; asked at every call."""
        if file.startswith((*_LIBRARIES, *_NOWHERE)) or any(part in file for part in _NOWHERE):
            found = ("", False)
        elif self._is_own(file):
            found = (file.removeprefix(self._folder), True)
        else:
            found = (_short(file), False)
        self._files[file] = found
        return found


def _folder_of(module: str) -> Path:
    """Of the package that a module is in, as it would be imported."""
    found = importlib.util.find_spec(module.partition(".")[0])
    if found is None or found.origin is None:
        return Path.cwd()
    return Path(found.origin).resolve().parent


def _short(file: str) -> str:
    for part in _INSTALLED:
        if part in file:
            return file.rpartition(part)[2]
    return Path(file).name


def _stack() -> Iterator[FrameType]:
    return _outwards(sys._getframe(2))


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
