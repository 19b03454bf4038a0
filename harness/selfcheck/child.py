"""The process in which a subject of the catalogue is searched at one seed, and nothing else.

``python -m harness.selfcheck.child`` takes orders, a line of JSON each, and forks a process for every one of them,
which writes what it finds as lines of JSON into a file. It has imported torch and the harness, which saves a search its
seconds.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from harness.cases.descriptors import LossCase
from harness.cases.serialization import case_from_json, case_to_json
from harness.config import Settings, settings_for
from harness.engine.events import CaseStarted, Event, SubjectLoaded, unheard
from harness.engine.judge import judge_calls
from harness.engine.plan import Task
from harness.engine.result import Call, Status, TaskResult
from harness.engine.run import TaskRunner
from harness.engine.search import keep_hypothesis_in
from harness.errors import HarnessError, SubjectError, describe_exception
from harness.files import json_line
from harness.kinds.registry import describe
from harness.oracle.levels import Level
from harness.subject_spec import SubjectKind, subject_from_json

# How the process of a replay ends, unless the subject ends it.
_HOLDS, _VIOLATED, _BROKEN = 80, 81, 82
Write = Callable[[Mapping[str, Any]], None]


def main() -> None:
    """Fork a process for every order on stdin. On stdout, its number, and how it ended when it has."""
    import torch

    # What every optimizer imports.
    __import__("torch._dynamo")
    torch.set_num_threads(1)
    for line in sys.stdin:
        process = os.fork()
        if not process:
            _run(json.loads(line))
        print(process, flush=True)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(order: Mapping[str, Any]) -> NoReturn:
    """Carry out the order, in a session of its own."""
    code = 1
    try:
        os.setsid()
        with open(os.devnull) as nothing, open(order["printed"], "wb") as printed:
            os.dup2(nothing.fileno(), 0)
            for stream in (1, 2):
                os.dup2(printed.fileno(), stream)
        with Path(order["record"]).open("w", encoding="utf-8") as record:

            def write(values: Mapping[str, Any]) -> None:
                record.write(json_line(values) + "\n")
                record.flush()

            try:
                _search(order, write)
                write({"done": True})
            except HarnessError as error:
                write({"refused": str(error), "exit_code": int(error.exit_code)})
            except BaseException:
                write({"broken": traceback.format_exc()})
        code = 0
    finally:
        # The subject may have left threads.
        os._exit(code)


def _search(order: Mapping[str, Any], write: Write) -> None:
    keep_hypothesis_in(Path(order["record"]).parent)
    # As in a worker: a step that is being convicted of it needs no warning for it.
    warnings.simplefilter("ignore")
    role = SubjectKind(order["role"])
    settings = _settings(order, role)
    try:
        runner = TaskRunner(settings)
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        raise SubjectError(f"loading {order['subject']['spec']} raised {describe_exception(error)}.") from error
    write({"loaded": [_loaded(one) for one in runner.session.loaded()]})
    for call in order.get("replays", ()):
        _replayed(runner, role, call, write)
    until = Level(order["until"])
    found = None
    for name, precision in order["tasks"]:
        found = _searched(runner, Task(role, name, precision), until, write)
    if order["others"] and found is not None and not is_violated(found, until):
        for name in order["others"]:
            if is_violated(_searched(runner, Task(role, name, found.task.precision), Level.FAULT, write), Level.FAULT):
                break
    elif order["shrink"] and found is not None:
        smallest = TaskRunner(settings).run(found.task, unheard).case
        write({"smallest": _words(found.task, smallest)})
    runner.session.close()


def _settings(order: Mapping[str, Any], role: SubjectKind) -> Settings:
    return settings_for(
        role,
        subject_from_json(order["subject"], "the order"),
        max_examples=order["examples"],
        seed=order["seed"],
        cases_dir=str(Path(order["record"]).parent),
    )


def is_violated(result: TaskResult, level: Level) -> bool:
    """Whether the property is, as gravely as this."""
    return result.status is Status.VIOLATED and (result.level or Level.FAULT).rank <= level.rank


def _searched(runner: TaskRunner, task: Task, until: Level, write: Write) -> TaskResult:
    began = time.monotonic()

    def emit(event: Event) -> None:
        # A subject may end the process in a case.
        if isinstance(event, CaseStarted):
            write({"case_at": time.monotonic() - began, "descriptor": case_to_json(event.case)})

    write({"began": [task.property, task.precision]})
    result = runner.run(task, emit, until=until)
    violated = result.status is Status.VIOLATED
    write(
        {
            "property": task.property,
            "precision": task.precision,
            "status": result.status.value,
            "level": (result.level or Level.FAULT).value if violated else None,
            "examples": result.examples,
            "seconds": result.seconds,
            "message": result.message,
            "case": _words(task, result.case) if violated else None,
            "descriptor": case_to_json(result.case) if violated and result.case is not None else None,
        }
    )
    return result


def _loaded(one: SubjectLoaded) -> Mapping[str, Any]:
    return {"held_to": one.held_to, "sentence": one.sentence, "table": dict(one.table)}


def _replayed(runner: TaskRunner, role: SubjectKind, call: Mapping[str, Any], write: Write) -> None:
    """Whether a case violates its property by itself: in a process of its own, which it may end."""
    task = Task(role, call["property"], call["precision"])
    case = case_from_json(call["case"], "the order")
    process = os.fork()
    if not process:
        code = _BROKEN
        try:
            code = _HOLDS if judge_calls(runner.session, (Call(task, case),)).holds else _VIOLATED
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    write({"replayed": [task.property, task.precision], "violated": None if code == _BROKEN else code != _HOLDS})


def _words(task: Task, case: Any) -> Mapping[str, Any] | None:
    """A case in one line, and its size: pixels of all its images, or micro-steps."""
    if case is None:
        return None
    pixels = isinstance(case, LossCase)
    size = case.images * case.height * case.width if pixels else len(case.actions)
    return {"words": describe(case, task.property), "size": size, "unit": "pixels" if pixels else "actions"}


if __name__ == "__main__":
    main()
