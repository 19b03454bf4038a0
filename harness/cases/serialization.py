"""Descriptors to JSON and back. Reading checks every field and never executes anything."""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from harness.cases.descriptors import MOST_DRAWN_PIXELS, MOST_ELEMENTS, Case, LossCase, StepCase, TrainingCase
from harness.errors import UsageError
from harness.files import shown

T = TypeVar("T")

_KINDS: dict[str, type] = {"loss": LossCase, "step": StepCase, "training": TrainingCase}
_LIMITS = {
    "height": (11, 4096),  # SSIM's window
    "width": (11, 4096),
    "batch": (1, 64),
    "views": (1, 64),
    "seed": (0, 2**63 - 1),
    "level": (0, 255),
    "pixels": (0, 4096**2),
    "magnitude": (0.0, 1.0),
    "accumulation": (1, 64),
    "scale_exponent": (-24, 24),
    "growth_interval": (1, 10**6),
    "clip_norm": (0.0, 1e4),
    "gaussians": (0, 4096),
    "size": (1, 512),
    "hidden_mask_value": (0.0, 0.5),
}
MOST_ITEMS = 1024
"""Actions in a program."""
# Of a whole case, before anything of it is built.
_PRODUCTS = {"elements": MOST_ELEMENTS, "drawn_pixels": MOST_DRAWN_PIXELS}


def case_to_json(case: Case) -> dict[str, Any]:
    """A plain dictionary that :func:`case_from_json` reads back to an equal case."""
    kind = next(name for name, cls in _KINDS.items() if isinstance(case, cls))
    return {"kind": kind, **_plain(case)}


@functools.lru_cache(maxsize=1)
def case_text(case: Case) -> str:
    """The same as JSON; of one case after the other it is asked several times."""
    return json.dumps(case_to_json(case))


def case_from_json(data: Any, where: str) -> Case:
    """The case that the dictionary describes.

    Raises:
        UsageError: a field is missing, unknown, of another type or out of range; ``where`` names the source.
    """
    kind = data.get("kind") if isinstance(data, Mapping) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise UsageError(f"{where}: a case must be an object whose 'kind' is one of {', '.join(_KINDS)}.")
    fields = {key: value for key, value in data.items() if key != "kind"}
    case: Case = _build(_KINDS[kind], fields, where)
    return case


def descriptor_to_json(descriptor: Any) -> dict[str, Any]:
    """Any frozen dataclass of plain values as a plain dictionary, without a kind."""
    return dict(_plain(descriptor))


def descriptor_from_json(cls: type[T], data: Any, where: str, complete: bool = True) -> T:
    """The descriptor of this class that the dictionary describes; with ``complete=False`` lacking fields, at any
    depth, have their defaults.

    Raises:
        UsageError: as :func:`case_from_json`.
    """
    if not complete and isinstance(data, Mapping):
        data = _over(descriptor_to_json(cls()), data)
    built: T = _build(cls, data, where)
    return built


def _over(default: dict[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(default)
    for key, value in data.items():
        both = isinstance(value, Mapping) and isinstance(default.get(key), dict)
        merged[key] = _over(default[key], value) if both else value
    return merged


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        # An optional field is left out where it says nothing: so a file is the same as before there was the field.
        said = [f.name for f in dataclasses.fields(value) if not (_optional(f) and getattr(value, f.name) == f.default)]
        return {name: _plain(getattr(value, name)) for name in said}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _optional(field: dataclasses.Field[Any]) -> bool:
    return bool(field.metadata.get("optional"))


def _build(cls: type, data: Any, where: str) -> Any:
    if not isinstance(data, Mapping):
        raise UsageError(f"{where} must be an object, not {shown(data)}.")
    hints = typing.get_type_hints(cls)
    if unknown := set(data) - set(hints):
        raise UsageError(f"{where} has the unknown field {shown(min(unknown))}; known are {', '.join(hints)}.")
    if missing := set(hints) - set(data) - {f.name for f in dataclasses.fields(cls) if _optional(f)}:
        raise UsageError(f"{where} lacks the field {min(missing)!r}.")
    given = {name: hint for name, hint in hints.items() if name in data}
    built = cls(**{name: _value(hint, data[name], name, f"{where}: {name}") for name, hint in given.items()})
    for what, limit in _PRODUCTS.items():
        if (size := getattr(built, what, 0)) > limit:
            raise UsageError(
                f"{where} has {size} {what.replace('_', ' ')}, but at most {limit} are run: make it smaller."
            )
    return built


def _value(hint: Any, value: Any, name: str, where: str) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if value is None:
            return None
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, where)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise UsageError(f"{where} must be a list, not {shown(value)}.")
        if len(value) > MOST_ITEMS:
            raise UsageError(f"{where} has {len(value)} entries, but at most {MOST_ITEMS} are run.")
        item = typing.get_args(hint)[0]
        return tuple(_value(item, entry, name, f"{where}[{i}]") for i, entry in enumerate(value))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        try:
            return hint(value)
        except ValueError:
            choices = ", ".join(repr(member.value) for member in hint)
            raise UsageError(f"{where} is {shown(value)}, but must be one of {choices}.") from None
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, hint) or isinstance(value, bool) is not (hint is bool):
        raise UsageError(f"{where} must be of type {hint.__name__}, not {shown(value)}.")
    if name in _LIMITS:
        low, high = _LIMITS[name]
        if not low <= value <= high:
            raise UsageError(f"{where} is {shown(value)}, but must lie in [{low}, {high}].")
    return value
