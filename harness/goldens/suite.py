"""``golden/suite.toml``: which subjects are recorded on which cases, under which precisions and tolerances."""

from __future__ import annotations

import enum
import fnmatch
import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.cases.descriptors import LossCase, StepCase
from harness.cases.scenes import MOST_VIEWS, SceneCase
from harness.cases.serialization import descriptor_from_json
from harness.errors import UsageError
from harness.files import one_line, shown
from harness.goldens.terms import Tolerance
from harness.oracle.definitions import DEFINITIONS
from harness.precision import PRECISIONS
from harness.subject_spec import DEFAULT_TRUTH, SubjectSpec
from harness.toml_tables import read_document

_LONGEST_NAME = 100


class GoldenKind(str, enum.Enum):
    """What a golden is of."""

    LOSS = "loss"  # value and gradient of a masked loss on one case
    STEP = "step"  # an AMP step's trajectory through a fault program
    SCENE = "scene"  # a renderer's pictures of a scene and the gradients by its fields
    FUNCTION = "function"  # whatever a function of one's own returns by name


@dataclass(frozen=True)
class MaskedLossCase:
    """A masked pair whose mask holds ``hidden_mask_value``, at most 0.5, wherever it hides."""

    pair: LossCase = field(default_factory=LossCase)
    hidden_mask_value: float = 0.0


@dataclass(frozen=True)
class FunctionCase:
    """The subject's arguments are the whole case."""


GoldenCase = MaskedLossCase | StepCase | SceneCase | FunctionCase
_CASES: dict[GoldenKind, type] = {
    GoldenKind.LOSS: MaskedLossCase,
    GoldenKind.STEP: StepCase,
    GoldenKind.SCENE: SceneCase,
    GoldenKind.FUNCTION: FunctionCase,
}


@dataclass(frozen=True)
class GoldenSpec:
    """One golden of the suite.

    Attributes:
        name: ``group.case``; its file's name.
        subject: its ``arguments`` go to its constructor (loss) or to each call (function).
        truth: the oracle's name for a loss, or whether the others are held to theirs.
        tolerances: of the recorded layer, by term.
        truth_tolerances: what replaces the precision's error budget, by term.
        requires: modules without which the subject can't run.
    """

    name: str
    kind: GoldenKind
    subject: SubjectSpec
    case: GoldenCase
    precisions: tuple[str, ...]
    truth: str | None
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    truth_tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    requires: tuple[str, ...] = ()

    @property
    def lacking(self) -> str:
        """Why this machine can't run the subject, or empty; nothing is imported."""
        missing = [name for name in self.requires if not _is_installed(name)]
        return f"needs the package {missing[0]}, which is not installed" if missing else ""


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # such as __main__, which has no spec
        return False


def read_suite(folder: Path) -> tuple[GoldenSpec, ...]:
    """The goldens of ``folder/suite.toml``, in its order.

    Raises:
        UsageError: the file is missing or malformed, naming the place.
    """
    path = folder / "suite.toml"
    if not os.path.lexists(path):
        raise UsageError(f"there is no {one_line(str(path))}: name the goldens' folder with --golden-dir.")
    document = read_document(path, "golden suite")
    _known(document, {"group", "case", "tolerances"}, str(path))
    cases, groups, by_kind = (_table(document, key, str(path)) for key in ("case", "group", "tolerances"))
    specs: dict[str, GoldenSpec] = {}
    for name, group in groups.items():
        for spec in _group(name, group, cases, by_kind, f"{path}: group {shown(name)}"):
            if spec.name in specs:
                raise UsageError(f"{path} names the golden {shown(spec.name)} twice: rename a group or a case.")
            specs[spec.name] = spec
    if not specs:
        raise UsageError(f"{path} names no goldens: it needs a [group.NAME].")
    return tuple(specs.values())


def selected(specs: tuple[GoldenSpec, ...], pattern: str | None) -> tuple[GoldenSpec, ...]:
    """Those whose name the pattern (shell-style, or a part of it) fits; all without one.

    Raises:
        UsageError: none.
    """
    if pattern is None:
        return specs
    chosen = tuple(spec for spec in specs if pattern in spec.name or fnmatch.fnmatchcase(spec.name, pattern))
    if not chosen:
        raise UsageError(f"no golden's name fits {pattern!r}; they run from {specs[0].name} to {specs[-1].name}.")
    return chosen


_GROUP_KEYS = {
    "kind", "subject", "similarity", "arguments", "cases", "precisions", "truth", "tolerances", "truth_tolerances",
    "requires",
}  # fmt: skip


def _group(name: str, group: Any, cases: Mapping[str, Any], by_kind: Mapping[str, Any], where: str) -> list[GoldenSpec]:
    _known(group, _GROUP_KEYS, where)
    try:
        kind = GoldenKind(group.get("kind"))
    except ValueError:
        raise UsageError(f"{where}: kind must be one of {', '.join(k.value for k in GoldenKind)}.") from None
    spec, truth, similarity = group.get("subject"), group.get("truth"), group.get("similarity", False)
    if not isinstance(spec, str):
        raise UsageError(f"{where}: subject must be package.module:name or path/to/file.py:name.")
    if truth is not None and not isinstance(truth, str):
        raise UsageError(f"{where}: truth must be text, not {shown(truth)}.")
    if kind is GoldenKind.LOSS and truth is not None and truth not in DEFINITIONS:
        raise UsageError(f"{where}: truth is {shown(truth)}, but must be one of {', '.join(DEFINITIONS)}.")
    if not isinstance(similarity, bool):
        raise UsageError(f"{where}: similarity must be true or false, not {shown(similarity)}.")
    arguments = _table(group, "arguments", where)
    if similarity and kind is not GoldenKind.LOSS:
        raise UsageError(f"{where}: similarity is said of a loss, not of a {kind.value}.")
    if arguments and kind not in (GoldenKind.LOSS, GoldenKind.FUNCTION):
        raise UsageError(f"{where}: arguments are for a loss or a function; a {kind.value} takes none.")
    held_to = truth if kind is GoldenKind.LOSS and truth is not None else DEFAULT_TRUTH
    subject = SubjectSpec(spec, None, similarity, held_to, arguments)
    precisions = _texts(group, "precisions", [], where)
    for precision in precisions:
        if precision not in {p.name for p in PRECISIONS}:
            raise UsageError(f"{where}: there is no precision {shown(precision)}.")
    if not precisions:
        raise UsageError(f"{where} needs precisions.")
    names = _texts(group, "cases", [""] if kind is GoldenKind.FUNCTION else [], where)
    if not names:
        raise UsageError(f"{where} needs cases.")
    for part in (name, *names):
        _refuse_file_name(part, where)
    defaults = _table(by_kind, kind.value, where)
    return [
        GoldenSpec(
            f"{name}.{case}" if case else name,
            kind,
            subject,
            FunctionCase() if kind is GoldenKind.FUNCTION else _case(kind, case, cases, where),
            precisions,
            truth,
            _tolerances({**defaults, **_table(group, "tolerances", where)}, where),
            _tolerances(_table(group, "truth_tolerances", where), where),
            _modules(_texts(group, "requires", [], where), where),
        )
        for case in names
    ]


def _table(table: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise UsageError(f"{where}: {key} must be a table, not {shown(value)}.")
    return value


def _texts(table: Mapping[str, Any], key: str, default: list[str], where: str) -> tuple[str, ...]:
    value = table.get(key, default)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UsageError(f"{where}: {key} must be a list of texts, not {shown(value)}.")
    return tuple(value)


def _refuse_file_name(part: str, where: str) -> None:
    """Groups' and cases' names make up files' names, which must not lead out of the folder."""
    if part and not (re.fullmatch(r"\w[\w.+-]*", part) and len(part.encode()) <= _LONGEST_NAME):
        raise UsageError(
            f"{where}: {shown(part)} can't be part of a file's name: use letters, digits, '_', '-', '+' and '.', "
            f"at most {_LONGEST_NAME} bytes."
        )


def _modules(names: tuple[str, ...], where: str) -> tuple[str, ...]:
    if not all(name.isidentifier() for name in names):
        raise UsageError(f"{where}: requires must be a list of modules' names, not {shown(list(names))}.")
    return names


def _case(kind: GoldenKind, name: str, cases: Mapping[str, Any], where: str) -> GoldenCase:
    if name not in cases:
        raise UsageError(f"{where}: there is no [case.{name}].")
    case: GoldenCase = descriptor_from_json(_CASES[kind], cases[name], f"{where}: case {shown(name)}", complete=False)
    if isinstance(case, SceneCase) and case.views > MOST_VIEWS:
        raise UsageError(f"{where}: case {shown(name)} has {case.views} views, but at most {MOST_VIEWS} are known.")
    return case


def _tolerances(table: Mapping[str, Any], where: str) -> dict[str, Tolerance]:
    found = {}
    for term, value in table.items():
        _known(value, {"relative", "absolute", "ulps"}, f"{where}: tolerance of {shown(term)}")
        if not all(isinstance(v, (int, float)) and not isinstance(v, bool) and v >= 0 for v in value.values()):
            raise UsageError(f"{where}: the tolerance of {shown(term)} must be of numbers from 0 up.")
        found[term] = Tolerance(**{key: float(number) for key, number in value.items()})
    return found


def _known(table: Any, keys: set[str], where: str) -> None:
    if not isinstance(table, dict):
        raise UsageError(f"{where} must be a table.")
    if unknown := set(table) - keys:
        raise UsageError(f"{where} has the unknown key {shown(min(unknown))}; known are {', '.join(sorted(keys))}.")
