"""A checkout's own modules, before those of the same names that are installed or imported already."""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from harness.errors import UsageError


@contextmanager
def subject_root(root: str | Path) -> Iterator[None]:
    """Give a checkout's modules precedence over installed ones, and undo it at the end.

    Being first on ``sys.path`` is not enough: a folder without ``__init__.py`` is a namespace package, which loses
    to a regular package of that name anywhere on the path, and a module that is already imported is not looked for.
    """
    finder = _enter_root(Path(root))
    try:
        yield
    finally:
        finder.leave()


def stay_in_root(root: Path) -> None:
    """Enter it unless it is the one entered last."""
    first = sys.meta_path[0]
    if not (isinstance(first, _RootFinder) and first.root == root.resolve()):
        _enter_root(root)


def _enter_root(root: Path) -> _RootFinder:
    if not root.is_dir():
        raise UsageError(f"--subject-root: there is no folder {root}.")
    finder = _RootFinder(root.resolve())
    finder.enter()
    return finder


class _RootFinder:
    """Answers for the top-level names that stand in one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._displaced: dict[str, ModuleType] = {}

    def enter(self) -> None:
        sys.meta_path.insert(0, self)
        sys.path.insert(0, str(self.root))
        for top in {name.partition(".")[0] for name in sys.modules}:
            if self._provides(top) and not self._is_ours(sys.modules.get(top)):
                self._displaced.update(_pop_package(top))
        importlib.invalidate_caches()

    def leave(self) -> None:
        sys.meta_path.remove(self)
        sys.path.remove(str(self.root))
        for top in {name.partition(".")[0] for name in self._displaced}:
            _pop_package(top)
        sys.modules.update(self._displaced)
        self._displaced.clear()
        importlib.invalidate_caches()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if path is not None or not self._provides(name):
            return None
        regular = importlib.machinery.PathFinder.find_spec(name, [str(self.root)])
        if regular is not None and regular.loader is not None:
            return regular
        # A namespace package, pinned to this folder: a plain list as __path__ is not widened later.
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(self.root / name)]
        return spec

    def _provides(self, name: str) -> bool:
        if not name.isidentifier() or is_taken(name):
            return False
        folder = self.root / name
        if (self.root / f"{name}.py").is_file() or (folder / "__init__.py").is_file():
            return True
        # A folder of data or logs (./wandb, ./datasets) must not shadow the package of that name.
        return folder.is_dir() and (any(folder.glob("*.py")) or any(folder.glob("*/*.py")))

    def _is_ours(self, module: ModuleType | None) -> bool:
        if module is None:
            return False
        places = [getattr(module, "__file__", None) or "", *list(getattr(module, "__path__", []))]
        return any(place and Path(place).resolve().is_relative_to(self.root) for place in places)


def is_taken(name: str) -> bool:
    """Whether no subject may have a top-level module of this name."""
    return name in sys.stdlib_module_names or name in ("harness", "torch")


def _pop_package(top: str) -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name == top or name.startswith(f"{top}.")]
    return {name: sys.modules.pop(name) for name in names}
