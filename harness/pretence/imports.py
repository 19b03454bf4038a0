"""Modules that are patched once the script imports them: importing them for its sake would take seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from harness.pretence.patches import Patches

Action = Callable[[ModuleType, Patches], None]


class AfterImport:
    """A finder on ``sys.meta_path`` that finds nothing itself, and patches what others found."""

    def __init__(self, actions: dict[str, Action], patches: Patches) -> None:
        self._actions = actions
        self._patches = patches
        self._looking: set[str] = set()

    def install(self) -> None:
        """Patch what is imported already, and wait for the rest."""
        for name, action in self._actions.items():
            if name in sys.modules:
                action(sys.modules[name], self._patches)
        sys.meta_path.insert(0, self)

    def remove(self) -> None:
        """Wait no more."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec that the other finders have, its loader followed by the patch."""
        if name not in self._actions or name in self._looking:
            return None
        self._looking.add(name)
        try:
            spec = find_spec(name)
        finally:
            self._looking.discard(name)
        loader: Any = spec.loader if spec else None
        if loader is None or not hasattr(loader, "exec_module"):
            return spec
        stock = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            stock(module)
            self._actions[name](module, self._patches)

        loader.exec_module = exec_module
        return spec
