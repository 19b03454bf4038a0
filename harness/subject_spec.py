"""Which subject: how it is named, loaded, called and judged, whole, as settings, files and reports carry it."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.errors import UsageError
from harness.files import is_name, json_value, shown

DEFAULT_TRUTH = "masked-ssim"
"""What a loss is expected to be where nothing else is named."""
AUTO_TRUTH = "auto"
"""The definition is found out from what the loss computes in float64, and binds nothing."""

REDUCTIONS = ("mean", "sum")
"""What can be made of a map of values."""


class SubjectKind(str, enum.Enum):
    """By which option a subject is named."""

    LOSS = "loss"
    STEP = "step"


@dataclass(frozen=True)
class SubjectSpec:
    """One subject.

    Attributes:
        spec: its import path, ``package.module:name`` or ``path/to/file.py:name``.
        root: the folder put first on the import path, or ``None``.
        similarity: the callable returns a similarity, of which the harness takes 1 − value.
        truth: what a loss is meant to be, by the name of its definition; or ``auto``.
        arguments: for the constructor of a loss' class, or for a loss that is a function, beyond those that the harness
            gives by itself.
        call: how a loss is called, as ``f(x, y, 11)``; ``None``: by its required arguments.
        reduce: what is made of a loss that gives one value for each pixel: ``mean`` or ``sum``; ``None``: it gives one.
        scale: what the loss is multiplied by before it is judged.
        promises: policies that a step is held to, each ``NAME=VALUE``, whatever it was seen to do.
        without: faults by name that a step's programs are made without.
    """

    spec: str
    root: str | None = None
    similarity: bool = False
    truth: str = DEFAULT_TRUTH
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    call: str | None = None
    reduce: str | None = None
    scale: float = 1.0
    promises: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values; what says how it is constructed and called only where it is said."""
        more = {"arguments": json_value(dict(self.arguments))} if self.arguments else {}
        more |= {"call": self.call} if self.call is not None else {}
        more |= {"reduce": self.reduce} if self.reduce is not None else {}
        more |= {"scale": self.scale} if self.scale != 1.0 else {}
        more |= {"promises": list(self.promises)} if self.promises else {}
        more |= {"without": list(self.without)} if self.without else {}
        return {"spec": self.spec, "root": self.root, "similarity": self.similarity, "truth": self.truth, **more}


def subject_from_json(data: Any, where: str) -> SubjectSpec:
    """What :meth:`SubjectSpec.as_json` gave; a file that names no truth means the default.

    Raises:
        UsageError: it is malformed, naming the place.
    """
    if not isinstance(data, dict):
        raise UsageError(f"{where}: subject must be an object.")
    similarity, arguments = data.get("similarity", False), data.get("arguments", {})
    if not isinstance(similarity, bool):
        raise UsageError(f"{where}: similarity must be true or false, not {shown(similarity)}.")
    if not isinstance(arguments, dict):
        raise UsageError(f"{where}: arguments must be an object, not {shown(arguments)}.")
    spec = name_from_json(data, "spec", where)
    if spec is None:
        raise UsageError(f"{where}: spec must be text, not None.")
    truth = name_from_json(data, "truth", where) or DEFAULT_TRUTH
    call, reduce, scale = data.get("call"), data.get("reduce"), data.get("scale", 1.0)
    if call is not None and not isinstance(call, str):
        raise UsageError(f"{where}: call must be text, not {shown(call)}.")
    if reduce not in (None, *REDUCTIONS):
        raise UsageError(f"{where}: reduce must be {' or '.join(REDUCTIONS)}, not {shown(reduce)}.")
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not math.isfinite(scale) or scale == 0.0:
        raise UsageError(f"{where}: scale must be a number other than 0, not {shown(scale)}.")
    root = name_from_json(data, "root", where)
    lists = []
    for key in ("promises", "without"):
        texts = data.get(key, [])
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise UsageError(f"{where}: {key} must be a list of texts, not {shown(texts)}.")
        lists.append(tuple(texts))
    return SubjectSpec(spec, root, similarity, truth, arguments, call, reduce, float(scale), *lists)


def name_from_json(data: Mapping[str, Any], key: str, where: str) -> str | None:
    """The text under the key, fit to be a name; ``None`` where there is none.

    Raises:
        UsageError: it is something else.
    """
    value = data.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise UsageError(f"{where}: {key} must be text, not {shown(value)}.")
    if not is_name(value):
        raise UsageError(f"{where}: {key} is {shown(value)}, which is no name.")
    return value
