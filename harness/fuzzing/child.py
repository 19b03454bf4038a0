"""The process that loads the subjects once and forks another for every unit: ``python -m harness.fuzzing.child``.

So each unit begins on subjects that nothing was done to, whatever ran before, and costs no loading. It takes orders, a
line of JSON each, and answers in lines of JSON. Where what was loaded can't be forked, having started threads or CUDA,
it carries out one order itself and ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from harness.cases.pictures import PHOTOGRAPHS, load_photograph
from harness.cases.serialization import case_to_json
from harness.cases.strategies import loss_cases
from harness.config import Settings
from harness.engine.draws import Draws
from harness.engine.events import CaseFailed, CaseStarted, Confirming, Event, TaskFinished, WorstKept
from harness.engine.judge import evidence_of, judge_calls
from harness.engine.pristine import fork_pristine
from harness.engine.result import Status
from harness.engine.run import TaskRunner
from harness.engine.search import keep_hypothesis_in
from harness.engine.session import Session
from harness.errors import HarnessError, SubjectError, describe_exception
from harness.files import json_line
from harness.findings.case_file import CaseFile, read_case_file
from harness.fuzzing.records import Found, found_task
from harness.kinds.registry import kind_of_case

Write = Callable[[Mapping[str, Any]], None]


def main() -> None:
    """Load the subjects that the first line names, and then fork a process for every further one."""
    settings = _settings(json.loads(sys.stdin.readline()))
    answers = os.dup(1)
    _print_into(sys.argv[1])

    def write(values: Mapping[str, Any]) -> None:
        text = json_line(values).encode() + b"\n"
        while text:
            text = text[os.write(answers, text) :]

    with _errors_told(write):
        write({"loaded": _loaded(settings)})
        for line in sys.stdin:
            order = json.loads(line)
            if not _forkable():
                write({"process": os.getpid()})
                _carry_out(order, settings, write)
                break
            process = os.fork()
            if not process:
                _leave_after(order, settings, write)
            write({"process": process})
            _, status = os.waitpid(process, 0)
            write({"ended": os.waitstatus_to_exitcode(status)})
    # What a subject left, threads or functions for the end, is not waited for.
    os._exit(0)


@contextlib.contextmanager
def _errors_told(write: Write) -> Iterator[None]:
    """An error ends the block, and is told."""
    try:
        yield
    except HarnessError as error:
        write({"refused": str(error), "exit_code": int(error.exit_code)})
    except BaseException:
        write({"broken": traceback.format_exc()})


def _settings(told: dict[str, Any]) -> Settings:
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in told.items()}
    return Settings(**values)


def _print_into(path: str) -> None:
    """What the subject prints goes there; from stdin it reads nothing."""
    with open(path, "ab") as printed:
        for stream in (1, 2):
            os.dup2(printed.fileno(), stream)


def _loaded(settings: Settings) -> dict[str, Any]:
    import torch

    # What every optimizer imports.
    __import__("torch._dynamo")
    torch.set_num_threads(1)
    # As in a check's worker: a step that is being convicted of it needs no warning for it, at every example.
    warnings.simplefilter("ignore")
    try:
        session = Session(settings)
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        raise SubjectError(f"loading the subject raised {describe_exception(error)}.") from error
    _warm_up()
    sources = {one.kind.value: _digest(one.source[0]) for one in session.loaded() if one.source is not None}
    session.close()
    return {"kinds": session.kind_names(), "sources": sources, "torch": str(torch.__version__)}


def _warm_up() -> None:
    """What the first case of a process would import and read, once for all that are forked: half a second each."""
    for name in PHOTOGRAPHS:
        load_photograph(name)
    Draws().cases(loss_cases(), 2, 0)


def _digest(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def _forkable() -> bool:
    import torch

    return threading.active_count() == 1 and not torch.cuda.is_initialized()


def _leave_after(order: Mapping[str, Any], settings: Settings, write: Write) -> NoReturn:
    code = 1
    try:
        os.setsid()
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        _print_into(order["printed"])
        with _errors_told(write):
            _carry_out(order, settings, write)
        code = 0
    finally:
        os._exit(code)


def _carry_out(order: Mapping[str, Any], settings: Settings, write: Write) -> None:
    keep_hypothesis_in(Path(order["printed"]).parent)
    if "example" in order:
        _try_example(Path(order["example"]), settings, write)
    else:
        _run_unit(order, settings, write)
    write({"done": True})


def _run_unit(order: Mapping[str, Any], settings: Settings, write: Write) -> None:
    runner = TaskRunner(replace(settings, seed=order["seed"]))
    session = runner.session
    kinds = {task: session.kind(task) for task in map(found_task, order["tasks"])}
    pristine = None
    if _forkable() and any(kind.confirms for kind in kinds.values()):
        pristine = fork_pristine(partial(judge_calls, session), partial(evidence_of, session))
        if pristine is not None:
            runner.confirm_with(pristine)
    emit = partial(_tell, settings, write)
    for task in kinds:
        result = runner.run(task, emit)
        found = Found(task, result.status, examples=result.examples, message=result.message, badness=result.badness)
        if result.status is Status.VIOLATED and result.case is not None:
            smallest = CaseFile.of(settings, task, result.case, result.message, result.earlier).file_name()
            worst = result.worst_case if result.worst_case not in (None, result.case) else None
            found = replace(
                found,
                level=result.level,
                case=smallest,
                worst="" if worst is None else CaseFile.of(settings, task, worst).file_name(),
            )
        write({"found": found.as_json()})
    if pristine is not None:
        pristine.close()
    session.close()


def _tell(settings: Settings, write: Write, event: Event) -> None:
    if isinstance(event, CaseStarted):
        limit = kind_of_case(event.case, event.task.property).seconds(event.case, settings.case_timeout)
        write({"case": case_to_json(event.case), "at": time.monotonic(), "limit": limit})
    elif isinstance(event, CaseFailed) and event.shrunk:
        _write_case(CaseFile.of(settings, event.task, event.case, event.message, event.earlier), write)
    elif isinstance(event, WorstKept):
        _write_case(CaseFile.of(settings, event.task, event.case, event.message), write)
    elif isinstance(event, (Confirming, TaskFinished)):
        write({"between": time.monotonic()})


def _write_case(file: CaseFile, write: Write) -> None:
    write({"file": file.file_name(), "content": file.as_json(Path(file.file_name()))})


def _try_example(path: Path, settings: Settings, write: Write) -> None:
    """What a case file's case does on this subject, by itself or after the calls that it needs."""
    file = read_case_file(path)
    session = Session(settings)
    task = file.task
    limit = kind_of_case(file.case, task.property).seconds(file.case, settings.case_timeout)
    write({"case": case_to_json(file.case), "at": time.monotonic(), "limit": limit})
    verdict = judge_calls(session, file.calls)
    status = Status.HELD if verdict.holds else Status.VIOLATED
    message = "" if verdict.holds else verdict.message
    level = None if verdict.holds else verdict.level
    write({"found": Found(task, status, level, 1, message, verdict.badness, path.name).as_json()})
    session.close()


if __name__ == "__main__":
    main()
