"""A run's log: one JSON object a line, flushed line by line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO


class RunLog:
    """Appends to ``path``; use as a context manager. A number that JSON can't hold is written as text."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: TextIO = path.open("a", encoding="utf-8")

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, **entries: Any) -> None:
        plain = {
            key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in entries.items()
        }
        self._file.write(json.dumps(plain) + "\n")
        self._file.flush()
