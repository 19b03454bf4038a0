"""What can run here and what stands in the way: all that a bug report needs, on one screen."""

from __future__ import annotations

import dataclasses
import importlib
import os
import tempfile
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config import Settings, load_settings, settings_file
from harness.errors import ExitCode, HarnessError, describe_exception, printable
from harness.files import json_value
from harness.reports.environment import Answer, Environment, Package, ask, full_environment

SCHEMA = "harness-doctor/1"
_LABEL, _WIDTH = 12, 110


@dataclass(frozen=True)
class PrecisionHere:
    """One precision; ``why_not`` is empty where it can run."""

    name: str
    why_not: str


@dataclass(frozen=True)
class Unemulated:
    """An op that the emulation of CUDA's autocast leaves as stock torch does it, and why."""

    op: str
    reason: str


@dataclass(frozen=True)
class Diagnosis:
    """What ``harness doctor`` says.

    Attributes:
        precisions: all, or why they can't be told.
        unemulated: none on a torch whose lists are all known.
        settings_file: the nearest pyproject.toml; its settings and those of the environment are in ``settings``.
        cases: where cases go, absolute; ``cases_why_not`` says why it can't be written, or is empty.
        verdict: in one sentence.
    """

    environment: Environment
    precisions: Answer[tuple[PrecisionHere, ...]]
    unemulated: Answer[tuple[Unemulated, ...]]
    settings_file: str | None
    settings: Answer[Settings]
    cases: str
    cases_why_not: str
    exit_code: ExitCode
    verdict: str

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {"schema": SCHEMA, **json_value(dataclasses.asdict(self)), "exit_code": int(self.exit_code)}


def diagnose(directory: Path) -> Diagnosis:
    """Look around, from this working directory. Never raises: what fails is told in its place."""
    with warnings.catch_warnings():
        # A warning of a driver that is too old, say, is told as the reason for there being no GPU.
        warnings.simplefilter("ignore")
        environment = full_environment()
        precisions = ask(_precisions, "can't be told")
        unemulated = ask(_unemulated, "can't be told")
    settings = _settings(directory)
    found = ask(lambda: settings_file(directory)).value
    cases = directory / (settings.value or Settings()).cases_dir
    why_not = ask(lambda: _why_unwritable(cases), "can't be told")
    unwritable = str(why_not)
    code, verdict = _verdict(environment, precisions, settings, unwritable)
    return Diagnosis(
        environment=environment,
        precisions=precisions,
        unemulated=unemulated,
        settings_file=None if found is None else str(found),
        settings=settings,
        cases=str(cases),
        cases_why_not=unwritable,
        exit_code=code,
        verdict=verdict,
    )


def _precisions() -> tuple[PrecisionHere, ...]:
    registry = importlib.import_module("harness.precision")

    def why_not(precision: Any) -> str:
        return str(ask(lambda: registry.unavailable_reason(precision) or "", "can't be told"))

    return tuple(PrecisionHere(p.name, why_not(p)) for p in registry.PRECISIONS)


def _unemulated() -> tuple[Unemulated, ...]:
    coverage = importlib.import_module("harness.precision.cuda_policy.coverage")
    return tuple(Unemulated(op, reason) for op, reason in coverage.unemulated_ops())


def _settings(directory: Path) -> Answer[Settings]:
    try:
        return Answer(load_settings({}, directory=directory))
    except HarnessError as error:
        return Answer(None, printable(str(error)))
    except Exception as error:
        return Answer(None, f"can't be read ({describe_exception(error)})")


def _why_unwritable(folder: Path) -> str:
    """Why no file can be made there, or empty; nothing is left behind."""
    there = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    if not there.is_dir():
        return f"{there} is no folder"
    if there == folder or os.access(there, os.W_OK | os.X_OK):
        try:
            with tempfile.TemporaryFile(dir=there):
                return ""
        except OSError as error:
            return f"{there} can't be written: {error.strerror}"
    return f"{there} can't be written"


def _verdict(
    environment: Environment, precisions: Answer[tuple[PrecisionHere, ...]], settings: Answer[Settings], unwritable: str
) -> tuple[ExitCode, str]:
    broken = [package for package in environment.needed if package.broken]
    names = ", ".join(package.name for package in broken)
    if any(package.for_checks for package in broken):
        return ExitCode.HARNESS, f"nothing can be checked: {names} can't be imported."
    if precisions.value is None:
        return ExitCode.HARNESS, f"nothing can be checked: the precisions {precisions}."
    if settings.value is None:
        return ExitCode.USAGE, f"nothing can be checked: {settings.why_not}"
    if unwritable:
        return ExitCode.USAGE, f"nothing can be checked where cases can't be kept ({unwritable}): name --cases-dir."
    run = [p for p in precisions.value if not p.why_not]
    if not run:
        return ExitCode.PRECISION, "nothing can be checked: no precision can run here."
    without = f"; {names} can't be imported, which goldens, plots or the default subjects need" if broken else ""
    return ExitCode.HELD, f"checks can run, in {len(run)} of {len(precisions.value)} precisions{without}."


def diagnosis_lines(diagnosis: Diagnosis) -> list[str]:
    """The screen, line by line."""
    lines = []
    for label, text in _told(diagnosis):
        wrapped = textwrap.wrap(
            printable(text).replace("\n", " "), _WIDTH - _LABEL, break_on_hyphens=False, break_long_words=False
        )
        lines += [f"{label if i == 0 else '':<{_LABEL}}{line}" for i, line in enumerate(wrapped or [""])]
    return lines


def _told(diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    environment = diagnosis.environment
    yield "harness", f"{environment.harness}, in {environment.place}"
    yield "python", f"{environment.python} on {environment.system}"
    torch, *others = environment.needed
    yield "torch", _package(torch) if torch.broken else f"{_package(torch)}, build: {environment.build}"
    yield "needed", ", ".join(f"{p.name} {_package(p)}" for p in others)
    there = [f"{p.name} {p.version}" for p in environment.optional if p.version]
    absent = [p.name for p in environment.optional if not p.version]
    yield "optional", "; ".join([", ".join(there), *(["not installed: " + ", ".join(absent)] if absent else [])])
    path = "by torch's operations, several times slower" if environment.numba_why_not else "in one compiled pass"
    yield "fast", f"{environment.numba_why_not or 'numba can be imported'}: on the CPU the default loss runs {path}"
    yield from _machine(environment)
    yield "precisions", _precision_text(diagnosis.precisions)
    yield "emulation", _emulation_text(diagnosis)
    yield "settings", _settings_text(diagnosis)
    yield "cases", diagnosis.cases + (f": {diagnosis.cases_why_not}" if diagnosis.cases_why_not else ", can be written")
    yield "verdict", diagnosis.verdict


def _machine(environment: Environment) -> Iterator[tuple[str, str]]:
    processor, threads, gpu = environment.processor, environment.threads, environment.gpu
    features = f" (it has {' '.join(processor.features)})" if processor.features else ""
    yield "processor", f"{processor.name}; torch uses {processor.capability}{features}"
    cores = f"{processor.cores or 'unknown'}, {processor.usable or 'unknown'} of them for this process"
    yield "cores", f"{cores}; torch's threads: {threads.within} within an op, {threads.between} between ops"
    yield "gpu", str(gpu.names) if gpu.names.value is None else ", ".join(gpu.names.value)
    if gpu.names.value is not None:
        yield "", f"driver {gpu.driver}"
    if gpu.tf32.value is not None:
        allowed = [name for name, on in gpu.tf32.value.items() if on]
        yield "tf32", f"on a GPU, allowed for float32 {' and '.join(allowed)}" if allowed else "off"
    else:
        yield "tf32", gpu.tf32.why_not
    if environment.variables:
        yield "variables", " ".join(f"{name}={value}" for name, value in environment.variables.items())


def _package(package: Package) -> str:
    if package.broken:
        return package.broken if package.version is None else f"{package.version}, {package.broken}"
    return str(package.version)


def _precision_text(precisions: Answer[tuple[PrecisionHere, ...]]) -> str:
    if precisions.value is None:
        return str(precisions)
    parts = [", ".join(p.name for p in precisions.value if not p.why_not) or "none"]
    reasons = dict.fromkeys(p.why_not for p in precisions.value if p.why_not)
    parts += [f"not {', '.join(p.name for p in precisions.value if p.why_not == why)}: {why}" for why in reasons]
    return "; ".join(parts)


def _emulation_text(diagnosis: Diagnosis) -> str:
    ops, precisions = diagnosis.unemulated.value, diagnosis.precisions.value or ()
    reasons = {p.why_not for p in precisions if p.name.startswith("cuda-policy")}
    if reasons and "" not in reasons:
        return f"none: {'; '.join(sorted(reasons))}"
    if ops is None:
        return str(diagnosis.unemulated)
    if not ops:
        return "of every op that CUDA's autocast lists"
    parts = (
        f"{', '.join(op.op for op in ops if op.reason == why)} ({why})"
        for why in dict.fromkeys(op.reason for op in ops)
    )
    return f"left as stock torch does it: {'; '.join(parts)}"


def _settings_text(diagnosis: Diagnosis) -> str:
    if diagnosis.settings.value is None:
        return diagnosis.settings.why_not
    file = diagnosis.settings_file or "no pyproject.toml here or above"
    default, given = vars(Settings()), vars(diagnosis.settings.value)
    changed = ", ".join(f"{name} = {value}" for name, value in given.items() if value != default[name])
    return f"{file}; {changed or 'all as by default'}"
