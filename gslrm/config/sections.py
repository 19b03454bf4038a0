"""From YAML's mappings to frozen dataclasses: each key is known, of its type and in its range.

A section is a frozen dataclass. The type of a field says what its key may hold, `setting` its range, and
`__post_init__` may raise ConfigError for keys that contradict each other.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

Section = TypeVar("Section")


class ConfigError(ValueError):
    """A setting that cannot be; the message names its key."""


@dataclasses.dataclass(frozen=True)
class Bounds:
    """An interval of numbers; `open_low` and `open_high` leave the end itself out."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, x: float) -> bool:
        above = self.low < x if self.open_low else self.low <= x
        return above and (x < self.high if self.open_high else x <= self.high)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"above {self.low:g}" if self.open_low else f"at least {self.low:g}"
        left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
        return f"in {left}{self.low:g}, {self.high:g}{right}"


POSITIVE = Bounds(low=0, open_low=True)
NOT_NEGATIVE = Bounds(low=0)
AT_LEAST_ONE = Bounds(low=1)
UNIT = Bounds(0, 1)
LEFT_ALONE: Mapping[str, Any] = {"left_alone": True}
"""Metadata of a field of type Any, for a public key that nothing acts on. Any value is accepted, and named by
`unheeded` unless it asks for nothing, as the default does."""


def setting(default: Any, bounds: Bounds | None = None) -> Any:
    """A dataclass field with a default, and the interval that its number must be in."""
    return dataclasses.field(default=default, metadata={"bounds": bounds})


@dataclasses.dataclass(frozen=True)
class Checked:
    """Base of all sections: whoever builds one, the types and ranges of its fields are checked.

    Raises ConfigError naming the field.
    """

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = _convert(getattr(self, field.name), hints[field.name], field.name)
            _check_bounds(value, field.metadata.get("bounds"), field.name)
            object.__setattr__(self, field.name, value)


def build(section: type[Section], raw: Any, where: str = "", ignored: list[str] | None = None) -> Section:
    """`section` from a mapping of its keys; a section in it from a mapping in the mapping.

    where: the section's own key, with dots, for messages. ignored: when given, unknown keys are added to it
    rather than refused. Raises ConfigError.
    """
    if raw is None:  # "losses:" with nothing under it
        raw = {}
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where or 'the file'} must be a section of keys, found {_shown(raw)}")
    hints = typing.get_type_hints(section)
    values: dict[str, Any] = {}
    for key, value in raw.items():
        name = f"{where}.{key}" if where else str(key)
        if key not in hints:
            if ignored is None:
                raise ConfigError(f"{name}: no such setting{_closest(str(key), hints, where)}")
            ignored.append(name)
        elif dataclasses.is_dataclass(hints[key]):
            values[key] = build(hints[key], value, name, ignored)
        else:
            values[key] = value
    try:
        return section(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}.{error}" if where else str(error)) from None


def unheeded(section: Checked, where: str = "") -> list[str]:
    """The keys of a section, with dots, that ask for what nothing acts on."""
    names: list[str] = []
    for field in dataclasses.fields(section):
        value, name = getattr(section, field.name), f"{where}.{field.name}" if where else field.name
        if isinstance(value, Checked):
            names += unheeded(value, name)
        elif "left_alone" in field.metadata and value != field.default:
            names.append(name)
    return names


def _closest(key: str, known: Mapping[str, Any], where: str) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {where}.{near[0]}?" if where else f"; did you mean {near[0]}?"
    return f"; {where or 'the file'} has {', '.join(known)}"


def _check_bounds(value: Any, bounds: Bounds | None, name: str) -> None:
    if isinstance(value, tuple):
        for number in value:
            _check_bounds(number, bounds, name)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name} is {value}, expected a finite number")
    elif bounds is not None and isinstance(value, int | float) and value not in bounds:
        raise ConfigError(f"{name} is {value:g}, expected {bounds}")


def _convert(value: Any, kind: Any, name: str) -> Any:
    """`value` as `kind`, one of: Any, a section, bool, int, float, str, None, Literal, tuple of numbers, union of
    these."""
    if kind is Any:
        return value
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        for choice in arguments:
            try:
                return _convert(value, choice, name)
            except ConfigError:
                continue
        expected = " or ".join(_named(choice) for choice in arguments)
        raise ConfigError(f"{name} must be {expected}, found {_shown(value)}")
    if origin is Literal:
        if isinstance(value, bool) or value not in arguments:
            raise ConfigError(f"{name} is {_shown(value)}, expected {_named(kind)}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple) or len(value) != len(arguments):
            raise ConfigError(f"{name} must be {_named(kind)}, found {_shown(value)}")
        return tuple(_convert(x, k, name) for x, k in zip(value, arguments, strict=True))
    if kind in (int, float):
        value = _number(value)
        if kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{name} must be {_named(kind)}, found {_shown(value)}")
    return value


def _number(value: Any) -> Any:
    """1e-4 is text to YAML 1.1, which asks for a dot in it; here it is the number that it looks like."""
    if isinstance(value, str) and value[:1] in "+-.0123456789":
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _named(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return " or ".join(map(str, typing.get_args(kind)))
    if typing.get_origin(kind) is tuple:
        return f"a list of {len(typing.get_args(kind))} numbers"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return "null" if kind is type(None) else names.get(kind, "a section")


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
