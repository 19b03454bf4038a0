"""Settings, with one precedence: flag, then environment, then ``[tool.harness]`` in pyproject.toml, then default.

The only module that reads the environment.  A key ``max_examples`` is ``--max-examples``, ``HARNESS_MAX_EXAMPLES``
and ``max-examples`` (or ``max_examples``) under ``[tool.harness]``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.files import is_name, read_toml, refuse_hostile, shown
from harness.subject_spec import AUTO_TRUTH, REDUCTIONS, SubjectKind, SubjectSpec


@dataclass(frozen=True)
class Settings:
    """What a run is told.

    Attributes:
        loss, step: specs of the subjects, ``package.module:name`` or ``path/to/file.py:name``; ``None`` for none.
        subject_root: folder put first on the import path.
        similarity: the loss subject returns a similarity.
        truth: what the loss subject is meant to be, which then binds; ``auto``: to be found out.
        arguments: for the constructor of the loss subject's class; in the environment one ``NAME=VALUE``, or several as
            a JSON object.
        call, reduce, scale: how the loss subject is called, what is made of a map of values, and what it is multiplied
            by.
        promises: policies that the step is held to, each ``NAME=VALUE``, whatever it was seen to do.
        without: faults that the step's programs are made without.
        strict: every level of violation makes the run fail, not faults alone.
        precisions, properties: names to run; empty for all.
        max_examples: examples per property and precision.
        seed: the same seed gives the same cases.
        max_time: seconds after which no further example is started; ``None`` for no limit.
        images: folder of the user's own pictures; ``None`` for those that scikit-image ships.
        cases_dir: where case files are written, and looked for to be tried first.
        regressions_dir: where the cases are kept that every check runs again.
        baseline: the file that holds accepted violations.
        golden_dir: the goldens' folder: ``suite.toml`` and what is recorded.
        selfcheck: the catalogue of ``harness selfcheck``; ``None`` for none.
        conformance: the subjects of ``harness conformance``; ``None`` for none.
        workers: processes that share the work; 0 for one per processor.
        case_timeout: seconds that a subject may take for one case, or to be loaded, before its process is ended.
    """

    loss: str | None = None
    step: str | None = None
    subject_root: str | None = None
    similarity: bool = False
    truth: str = AUTO_TRUTH
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    call: str | None = None
    reduce: str | None = None
    scale: float = 1.0
    promises: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    strict: bool = False
    precisions: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    max_examples: int = 100
    seed: int = 0
    max_time: float | None = None
    images: str | None = None
    cases_dir: str = ".harness/cases"
    regressions_dir: str = ".harness/regressions"
    baseline: str = ".harness/baseline.json"
    golden_dir: str = "golden"
    selfcheck: str | None = None
    conformance: str | None = None
    workers: int = 0
    case_timeout: float = 60.0

    def subject(self, kind: SubjectKind) -> SubjectSpec | None:
        """The subject of this kind, whole; ``None`` where none is named. Only a loss has the last three attributes."""
        if kind is SubjectKind.STEP:
            if self.step is None:
                return None
            return SubjectSpec(self.step, self.subject_root, promises=self.promises, without=self.without)
        if self.loss is None:
            return None
        how = (self.call, self.reduce, self.scale)
        return SubjectSpec(self.loss, self.subject_root, self.similarity, self.truth, self.arguments, *how)


def settings_for(kind: SubjectKind, subject: SubjectSpec, **more: Any) -> Settings:
    """Settings whose subject of this kind is this one, with ``more`` of their attributes."""
    if kind is SubjectKind.STEP:
        return Settings(
            step=subject.spec, subject_root=subject.root, promises=subject.promises, without=subject.without, **more
        )
    return Settings(
        loss=subject.spec,
        subject_root=subject.root,
        similarity=subject.similarity,
        truth=subject.truth,
        arguments=subject.arguments,
        call=subject.call,
        reduce=subject.reduce,
        scale=subject.scale,
        **more,
    )


def load_settings(
    flags: Mapping[str, Any],
    *,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Merge the flags (``None`` meaning not given) with environment, pyproject and defaults.

    Folders come out absolute: a subject may change the working directory.  One in pyproject is told from the file's
    folder.  With either of ``loss`` and ``step`` given as a flag or in the environment, the other default does not
    apply.  A flag of either that is empty text asks for its default alone.

    Raises:
        UsageError: an unknown key in ``[tool.harness]``, or a value of the wrong kind or range, naming where; a
            default that is asked for and isn't there; arguments given for a step alone.
    """
    environment = os.environ if environment is None else environment
    here = (directory or Path.cwd()).absolute()
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    file_values, file_name = _from_pyproject(here, set(fields))
    defaults_asked_for = {name for name in ("loss", "step") if flags.get(name) == ""}
    given = {
        name: (_convert(name, value, _FLAGS.get(name, f"--{name.replace('_', '-')}")))
        for name, value in flags.items()
        if value is not None and name not in defaults_asked_for
    }
    for name in fields:
        variable = f"HARNESS_{name.upper()}"
        if name not in given and environment.get(variable):
            given[name] = _convert(name, environment[variable], variable)
    named = {"loss", "step"} & set(given)
    # What goes with a default subject doesn't go with another.
    passed_over = (
        {"subject_root", "similarity", "truth", "arguments", "strict", *OF_ONE_LOSS, *OF_ONE_STEP} if named else set()
    )
    if named or defaults_asked_for:
        passed_over |= {"loss", "step"} - defaults_asked_for
    merged = dict(given)
    for name, value in file_values.items():
        if name not in merged and name not in passed_over:
            value = _convert(name, value, f"[tool.harness] {name} in {file_name}")
            # A folder that is named in a file is meant from there.
            merged[name] = str(Path(file_name).parent / value) if name in _PATHS else value
    if flags.get("arguments") and "loss" not in merged and "step" in named | defaults_asked_for:
        raise UsageError("--argument is for a loss' constructor, and only a step is named: a step takes no arguments.")
    for name in defaults_asked_for - set(merged):
        raise UsageError(f"--{name} names no {name}, and [tool.harness] in pyproject.toml has no default.")
    # Named by a flag or in the environment, a folder is meant from where one is; by default, from the run's own.
    for name in _PATHS:
        path = merged.get(name, getattr(Settings(), name))
        if path:
            merged[name] = str((Path.cwd() if name in given else here) / path)
    return Settings(**merged)


def settings_file(directory: Path) -> Path | None:
    """The nearest ``pyproject.toml``, in the folder or above it; ``None`` for none."""
    candidates = (folder / "pyproject.toml" for folder in (directory, *directory.parents))
    return next((path for path in candidates if os.path.lexists(path)), None)


def environment_variables(names: Iterable[str], prefix: str) -> dict[str, str]:
    """Those of the environment's variables that have one of these names, or begin with ``prefix``."""
    wanted = set(names)
    return {name: value for name, value in sorted(os.environ.items()) if name in wanted or name.startswith(prefix)}


def step_summary() -> Path | None:
    """The file that GitHub Actions shows on a job's page, where this runs in one."""
    name = os.environ.get("GITHUB_STEP_SUMMARY")
    return Path(name).absolute() if name else None


def processes_here() -> int:
    """How many processes ``torchrun`` started on this machine to train together; 1 where it started none."""
    said = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, int(said)) if said.isdecimal() and len(said) < 4 else 1


def put_into_environment(values: Mapping[str, str]) -> None:
    """Set variables of this process, for what it runs and starts."""
    os.environ.update(values)


def environment_with_path(folder: Path) -> dict[str, str]:
    """The environment for a process that finds modules in ``folder`` too, before what is installed."""
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *([before] if before else [])])}


def _from_pyproject(directory: Path, known: set[str]) -> tuple[dict[str, Any], str]:
    path = settings_file(directory)
    if path is None:
        return {}, ""
    tool = read_toml(path).get("tool", {})
    table = tool.get("harness", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise UsageError(f"tool.harness in {path} must be a table, not {shown(table)}.")
    try:
        refuse_hostile(table)
    except ValueError as error:
        raise UsageError(f"[tool.harness] in {path}: {error}.") from None
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in known:
            raise UsageError(
                f"[tool.harness] in {path} has the unknown key {shown(key)}; known are {', '.join(sorted(known))}."
            )
        if name in values:
            raise UsageError(f"[tool.harness] in {path} has {shown(key)} twice, with a dash and with an underscore.")
        values[name] = value
    return values, str(path)


OF_ONE_LOSS = ("call", "reduce", "scale")
"""Settings that say how one loss is called, and nothing of another."""
OF_ONE_STEP = ("promises", "without")
"""Settings that say what one step is held to."""
_BOOLEANS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_MINIMUM = {"max_examples": 1, "seed": 0, "max_time": 0, "workers": 0, "case_timeout": 0.1}
_MAXIMUM = {"max_examples": 10**9, "seed": 2**63 - 1, "workers": 1024}
_FLAGS = {"arguments": "--argument", "precisions": "--precision", "properties": "--property", "promises": "--promise"}
_PATHS = (
    "subject_root",
    "images",
    "cases_dir",
    "regressions_dir",
    "baseline",
    "golden_dir",
    "selfcheck",
    "conformance",
)


class _UnfitError(Exception):
    """A value that is well written, and beyond what files can hold; says how."""


def _convert(name: str, value: Any, where: str) -> Any:
    try:
        converted = _converted(name, value)
    except _UnfitError as error:
        raise UsageError(f"{where} is {shown(value)}: {error}.") from None
    except (TypeError, ValueError, OverflowError):
        hint = "NAME=VALUE" if name == "arguments" else f"a valid {name.replace('_', ' ')}"
        raise UsageError(f"{where} is {shown(value)}, which is not {hint}.") from None
    if name in _MINIMUM and not converted >= _MINIMUM[name]:
        raise UsageError(f"{where} is {shown(value)}, but must be at least {_MINIMUM[name]}.")
    if name in _MAXIMUM and converted > _MAXIMUM[name]:
        raise UsageError(f"{where} is {shown(value)}, but must be at most {_MAXIMUM[name]}.")
    return converted


def _converted(name: str, value: Any) -> Any:
    if name in ("max_examples", "seed", "workers"):
        if isinstance(value, (bool, float)):
            raise TypeError
        return int(value)
    if name in ("max_time", "case_timeout"):
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    if name == "scale":
        scale = float(value)
        if isinstance(value, bool) or not math.isfinite(scale) or scale == 0.0:
            raise ValueError
        return scale
    if name == "reduce":
        if value not in REDUCTIONS:
            raise ValueError
        return value
    if name == "call":
        if not isinstance(value, str):
            raise TypeError
        refuse_hostile(value)
        return value
    if name in ("similarity", "strict"):
        if isinstance(value, bool):
            return value
        if str(value).lower() not in _BOOLEANS:
            raise ValueError
        return _BOOLEANS[str(value).lower()]
    if name == "arguments":
        return _arguments(value)
    if name in ("precisions", "properties", *OF_ONE_STEP):
        items = value.split(",") if isinstance(value, str) else list(value)
        if not all(isinstance(item, str) for item in items):
            raise TypeError
        return tuple(item.strip() for item in items if item.strip())
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError
    if not is_name(str(value)):
        raise ValueError
    return str(value)


def _arguments(value: Any) -> dict[str, Any]:
    """A table, also as JSON in one text; or texts, each ``NAME=VALUE`` with a VALUE of JSON, or plain text where it is
    none.  A case file must be able to hold them, so they keep to its limits.
    """
    if isinstance(value, str):
        table = _json_or_text(value) if value.startswith("{") else None
        value = table if isinstance(table, dict) else [value]
    if isinstance(value, Mapping):
        found = dict(value)
    else:
        found = {}
        for text in value:
            if not isinstance(text, str):
                raise TypeError
            name, equals, written = text.partition("=")
            if not equals or not name.isidentifier():
                raise ValueError
            found[name] = _json_or_text(written)
    try:
        refuse_hostile(found)
    except ValueError as error:
        raise _UnfitError(str(error)) from None
    return found


def _json_or_text(written: str) -> Any:
    try:
        return json.loads(written)
    except RecursionError:
        raise _UnfitError("lists or tables are nested too deep") from None
    except ValueError:
        return written
