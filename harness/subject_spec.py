"""Which subject: how it is named, loaded, called and judged, whole, as settings, files and reports carry it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.errors import UsageError
from harness.files import is_name, json_value, shown

DEFAULT_TRUTH = "masked-ssim"
"""What a loss is expected to be where nothing else is named."""
AUTO_TRUTH = "auto"
"""The definition is found out from what the loss computes in float64, and binds nothing."""


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
        arguments: for the constructor of a loss' class, beyond those that the harness gives by itself.
    """

    spec: str
    root: str | None = None
    similarity: bool = False
    truth: str = DEFAULT_TRUTH
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def as_json(self) -> dict[str, Any]:
        """Plain values; ``arguments`` only where there are any."""
        arguments = {"arguments": json_value(dict(self.arguments))} if self.arguments else {}
        return {
            "spec": self.spec, "root": self.root, "similarity": self.similarity, "truth": self.truth, **arguments
        }  # fmt: skip


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
    return SubjectSpec(spec, name_from_json(data, "root", where), similarity, truth, arguments)


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
