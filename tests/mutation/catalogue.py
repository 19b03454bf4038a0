"""A mutant of the properties judged by the catalogue of ``harness selfcheck``, in process, nothing made smaller.

The faults that the mutated module has a say in must be found just as the catalogue expects them, level included, and in
what is right nothing may be found.
"""

from __future__ import annotations

import ast
import inspect
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NoReturn

from harness.config import settings_for
from harness.engine.events import unheard
from harness.engine.plan import Task, plan
from harness.engine.result import Status
from harness.engine.run import TaskRunner
from harness.engine.search import keep_hypothesis_in
from harness.kinds.registry import kinds_with, property_names
from harness.oracle.levels import Level
from harness.selfcheck.catalogue import Entry, Fault, Subject
from harness.selfcheck.child import is_violated
from harness.selfcheck.reading import read_catalogue
from harness.subject_spec import SubjectKind

PATH = Path("tests/catalogue/catalogue.toml")
_PACKAGE = "harness.properties"
# It starts processes of its own, which import all over again: only for a change in what is its own.
_RANKS = "ranks-agree"
_TRAINING = "training"
_NOTICED, _UNNOTICED, _BROKEN = 80, 81, 82


def catalogue_findings(stage: Mapping[str, Any], scratch: Path) -> Iterator[str]:
    """Each fault that isn't noticed and each false alarm, in words.

    Args:
        stage: ``seed``; ``examples`` for a right implementation; ``rights``, which of them, by name; ``strict``, those
            in which nothing of any level may be found; ``seconds`` that an entry may take; and of a mutant its ``file``
            and ``function``, without which all is run.
        scratch: a folder for what is written.
    """
    catalogue = read_catalogue(PATH)
    entries: list[Entry] = [*catalogue.faults, *(right for right in catalogue.rights if right.name in stage["rights"])]
    if missing := set(stage["rights"]) - {entry.name for entry in entries}:
        raise ValueError(f"{PATH} has no {', '.join(sorted(missing))}")
    for entry, tasks in _in_order(entries, stage.get("file", ""), stage.get("function", "")):
        if said := _said(entry, tasks, stage, scratch):
            yield said


def _in_order(entries: list[Entry], file: str, function: str) -> list[tuple[Entry, list[Task]]]:
    """What to run, the slow ones last: the properties that are seen to call the function, or where none is, all that
    the module has a say in.
    """
    mutated = file.removesuffix(".py").replace("/", ".")
    judged = _judged_by(mutated)
    own = [named for named, called in judged.items() if (mutated, function) in called]
    runs = []
    for entry in entries:
        if isinstance(entry.subject, Subject):
            tasks = [task for task in _tasks(entry, entry.subject) if (task.kind, task.property) in (own or judged)]
            runs += [(_TRAINING in entry.name or not isinstance(entry, Fault), entry, tasks)] if tasks else []
    return [(entry, tasks) for _, entry, tasks in sorted(runs, key=lambda run: run[0])]


def _tasks(entry: Entry, subject: Subject) -> list[Task]:
    if isinstance(entry, Fault):
        return [Task(subject.role, entry.expected, entry.precision)]
    return list(plan((subject.role,), (), entry.precisions))


def _judged_by(mutated: str) -> dict[tuple[SubjectKind, str], set[tuple[str, str]]]:
    """The properties that a module has a say in, those of the modules that import it, each with the functions that it
    is seen to call.
    """
    found = {}
    for role in SubjectKind:
        for name in property_names(role):
            check = inspect.unwrap(kinds_with(role, name)[0].property_named(name).check)  # type: ignore[union-attr]
            reaches = not mutated or mutated in _imported_by(check.__module__)
            if reaches and (name != _RANKS or mutated == check.__module__):
                found[role, name] = _called_by(check)
    return found


def _called_by(check: FunctionType) -> set[tuple[str, str]]:
    """Module and name of the functions of properties that it names, or that they name, and its own."""
    found: set[tuple[str, str]] = set()
    left = [check]
    while left:
        function = left.pop()
        if (key := (function.__module__, function.__qualname__)) in found:
            continue
        found.add(key)
        codes = [function.__code__]
        for code in codes:
            codes += [part for part in code.co_consts if isinstance(part, CodeType)]
            named = [function.__globals__.get(name) for name in code.co_names]
            functions = [inspect.unwrap(getattr(one, "check", one)) for one in named if callable(one)]
            left += [one for one in functions if isinstance(one, FunctionType) and one.__module__.startswith(_PACKAGE)]
    return found


def _imported_by(module: str) -> set[str]:
    """The modules of properties that this one imports, by others too, and itself."""
    found: set[str] = set()
    left = [module]
    while left:
        name = left.pop()
        if name in found:
            continue
        found.add(name)
        for node in ast.walk(ast.parse(inspect.getsource(sys.modules[name]))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_PACKAGE):
                named = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
                left += [one for one in named if one in sys.modules and one != _PACKAGE]
    return found


def _said(entry: Entry, tasks: list[Task], stage: Mapping[str, Any], scratch: Path) -> str:
    """What is wrong with what the harness says of the entry, or empty: in a process of its own, which it may change or
    end, and which takes no longer than it may.
    """
    kind = "fault" if isinstance(entry, Fault) else "right"
    told = scratch / "said"
    told.unlink(missing_ok=True)
    process = os.fork()
    if not process:
        _run(entry, tasks, stage, scratch, told)
    ends = time.monotonic() + stage["seconds"]
    while (ended := os.waitpid(process, os.WNOHANG))[0] == 0:
        if time.monotonic() > ends:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return f"{kind} {entry.name}: still running after {stage['seconds']:g} s"
        time.sleep(0.002)
    code = os.waitstatus_to_exitcode(ended[1])
    said = told.read_text(encoding="utf-8") if told.exists() else f"{tasks[0].property}: ends with {code}"
    return "" if code == (_NOTICED if isinstance(entry, Fault) else _UNNOTICED) else f"{kind} {entry.name}: {said}"


def _run(entry: Entry, tasks: list[Task], stage: Mapping[str, Any], scratch: Path, told: Path) -> NoReturn:
    code = _BROKEN
    try:
        code = _searched(entry, tasks, stage, scratch, told)
    except BaseException as error:
        traceback.print_exc()
        told.write_text(f"{tasks[0].property} raises {type(error).__name__}", encoding="utf-8")
    finally:
        # The subject may have left threads.
        os._exit(code)


def _searched(entry: Entry, tasks: list[Task], stage: Mapping[str, Any], scratch: Path, told: Path) -> int:
    keep_hypothesis_in(scratch)
    subject = entry.subject
    assert isinstance(subject, Subject)
    if isinstance(entry, Fault):
        until, examples = entry.level, subject.examples
    else:
        until = Level.STRICTNESS if entry.name in stage["strict"] else Level.FAULT
        examples = stage["examples"]
    settings = settings_for(
        subject.role, subject.spec, max_examples=examples, seed=stage["seed"], cases_dir=str(scratch)
    )
    runner = TaskRunner(settings)
    for task in tasks:
        result = runner.run(task, unheard, until=until)
        level = f", {result.level.value}" if result.level is not None else ""
        said = f"{task.property}, {task.precision}: {result.status.value}{level} {result.message}"
        told.write_text(said, encoding="utf-8")
        if is_violated(result, until):
            runner.session.close()
            # Graver than it is known to be is a change too.
            return _NOTICED if result.level is until or not isinstance(entry, Fault) else _BROKEN
        if result.status is Status.NOT_RUN:
            return _BROKEN
    runner.session.close()
    return _UNNOTICED
