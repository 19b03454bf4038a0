"""Attributes replaced for a while, and put back as the very objects that they were."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

_ABSENT = object()


class Patches:
    """A stack of replaced attributes of modules and classes."""

    def __init__(self) -> None:
        self._old: list[tuple[Any, str, Any]] = []
        self._items: list[tuple[dict[str, Any], str, Any]] = []

    def put(self, owner: Any, name: str, value: Any) -> None:
        """Set the attribute, whether or not there is one."""
        # From `vars`: `getattr` unwraps a class' static methods, and gives inherited ones, which would come to stay.
        self._old.append((owner, name, vars(owner).get(name, _ABSENT)))
        setattr(owner, name, value)

    def put_item(self, mapping: dict[str, Any], key: str, value: Any) -> None:
        """Replace a value in a dictionary."""
        self._items.append((mapping, key, mapping[key]))
        mapping[key] = value

    def put_all(self, owner: Any, values: Mapping[str, Any]) -> None:
        """Set those of the attributes that this torch has."""
        for name, value in values.items():
            if hasattr(owner, name):
                self.put(owner, name, value)

    def wrap(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Put ``make(stock)`` in place of the function ``stock``, under its name; nothing if there is none."""
        stock = getattr(owner, name, None)
        if stock is not None:
            self.put(owner, name, wraps(stock)(make(stock)))

    def restore(self) -> None:
        """Put everything back, the last first."""
        while self._items:
            mapping, key, old = self._items.pop()
            mapping[key] = old
        while self._old:
            owner, name, old = self._old.pop()
            if old is not _ABSENT:
                setattr(owner, name, old)
            elif name in vars(owner):
                delattr(owner, name)
