"""The import path of a class or function that a running script uses, as a replay will find it."""

from __future__ import annotations

import ast
import sys
import types
from pathlib import Path
from typing import Any

from harness.errors import SubjectError

_INSTALLED = ("/site-packages/", "/dist-packages/", f"{Path(sys.prefix) / 'lib'}/", f"{Path(types.__file__).parent}/")


class ImportPaths:
    """Finds import paths, and remembers what each names in this process."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}

    def of(self, thing: Any) -> str:
        """``package.module:name``; of what a script itself defines ``path/to/script.py:name``.

        Raises:
            SubjectError: it has none: it is made inside a function, or by a script that trains when it is imported.
        """
        module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", type(thing).__name__)
        if not isinstance(module, str) or "<" in name:
            raise SubjectError(f"{name} is made inside a function, or has no module, and can't be imported.")
        found: Any = sys.modules.get(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        # What is watched by its name is wrapped.
        if found is not thing and getattr(found, "__wrapped__", None) is not thing:
            raise SubjectError(f"{module}:{name} is something else than what is called.")
        path = f"{_of_main(name) if module == '__main__' else module}:{name}"
        self.known[path] = thing
        return path


def _of_main(name: str) -> str:
    main = sys.modules["__main__"]
    file, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    if file is None or not Path(file).is_file():
        raise SubjectError(f"{name} is defined where there is no file.")
    if not _is_guarded(Path(file)):
        raise SubjectError(
            f"{name} is defined in {Path(file).name}, which would train again when it is imported: move it to a module "
            f"of its own, or guard the training by if __name__ == '__main__'."
        )
    return spec.name if spec is not None else str(Path(file).resolve())


def _is_guarded(script: Path) -> bool:
    try:
        tree = ast.parse(script.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return False
    return any(isinstance(node, ast.If) and "__name__" in ast.unparse(node.test) for node in tree.body)


def folder_of(path: str) -> str | None:
    """The folder that a path's module was imported from; ``None`` for what is installed, or told by its file."""
    name = path.partition(":")[0]
    file = getattr(sys.modules.get(name), "__file__", None)
    if name.endswith(".py") or file is None or any(part in file for part in _INSTALLED):
        return None
    place = Path(file).resolve()
    for _ in range(name.count(".") + (place.name == "__init__.py")):
        place = place.parent
    return str(place.parent)
