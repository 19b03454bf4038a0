"""Where the source of an imported object stands."""

from __future__ import annotations

import inspect
from typing import Any


def source_of(found: Any) -> tuple[str, int] | None:
    """The file and the line where an imported object begins; ``None`` where it has none."""
    try:
        named = inspect.unwrap(found) if callable(found) else found
        of_class = named if inspect.isclass(named) or inspect.isroutine(named) else type(named)
        file = inspect.getsourcefile(of_class)
        return None if file is None else (file, inspect.getsourcelines(of_class)[1])
    except (TypeError, OSError, ValueError):
        return None
