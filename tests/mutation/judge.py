"""The process that judges mutants: ``python -m tests.mutation.judge MODULE…``, run in a copy of the project.

It imports these modules, which aren't mutated, torch above all, and forks a process for every order, a line of JSON on
stdin. The fork imports the mutated module afresh, runs stage after stage until one finds a fault, and writes what did
into a file. On stdout: how the fork ended.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

LARGEST_MEMORY = 12 * 2**30
# Starts processes of its own, which import all over again.
_OTHER_PROCESSES = ("ranks-agree",)


def main() -> None:
    """Fork for every order; say what came of it: an exit code, negative for a signal."""
    for name in sys.argv[1:]:
        try:
            importlib.import_module(name)
        except ImportError as error:
            # Numba may be missing.
            if error.name != name:
                raise
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    print("ready", flush=True)
    for line in sys.stdin:
        process = os.fork()
        if not process:
            _run(json.loads(line))
        print(process, flush=True)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(order: Mapping[str, Any]) -> NoReturn:
    code = 1
    try:
        os.setsid()
        cpu = int(order["cpu_seconds"])
        resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
        resource.setrlimit(resource.RLIMIT_AS, (LARGEST_MEMORY, LARGEST_MEMORY))
        with open(os.devnull) as nothing, open(order["printed"], "wb") as printed:
            os.dup2(nothing.fileno(), 0)
            for stream in (1, 2):
                os.dup2(printed.fileno(), stream)
        warnings.simplefilter("ignore")
        if "numba" in sys.modules:
            sys.modules["numba"].config.CACHE_DIR = order["compiled"]
        if order.get("reached"):
            os.environ["MUTATION_REACHED"] = order["reached"]
        try:
            by = _killed_by(order["stages"], Path(order["scratch"]))
        except BaseException as error:
            traceback.print_exc()
            by = f"raises {type(error).__name__}"
        Path(order["verdict"]).write_text(json.dumps({"by": by}), encoding="utf-8")
        sys.stdout.flush()
        code = 0
    finally:
        # The subject may have left threads.
        os._exit(code)


def _killed_by(stages: list[Mapping[str, Any]], scratch: Path) -> str:
    """What found the fault first; empty where nothing did."""
    for stage in stages:
        for by in _JUDGES[stage["by"]](stage, scratch):
            return by
    return ""


def _goldens(stage: Mapping[str, Any], scratch: Path) -> Iterator[str]:
    """Each golden that isn't what is recorded."""
    from harness.goldens.checking import check_one
    from harness.goldens.folder import GoldenFolder
    from harness.goldens.outcome import Status

    folder = GoldenFolder(Path("golden"))
    for spec in folder.selected(stage["only"]):
        for outcome in check_one(folder, spec, tuple(stage["precisions"])):
            if outcome.status in (Status.FAILED, Status.MISSING):
                yield f"golden {outcome.golden}, {outcome.precision}"


def _check(stage: Mapping[str, Any], scratch: Path) -> Iterator[str]:
    """Each property that is violated, at whatever level, as ``harness check --strict`` counts."""
    from harness.config import settings_for
    from harness.engine.events import unheard
    from harness.engine.plan import plan
    from harness.engine.result import Status
    from harness.engine.run import TaskRunner
    from harness.engine.search import keep_hypothesis_in
    from harness.errors import SubjectError
    from harness.oracle.levels import Level
    from harness.subject_spec import SubjectKind, subject_from_json

    keep_hypothesis_in(scratch)
    role = SubjectKind(stage["role"])
    subject = subject_from_json(stage["subject"], "the stage")
    examples, seed = stage["examples"], stage["seed"]
    settings = settings_for(role, subject, max_examples=examples, seed=seed, cases_dir=str(scratch))
    try:
        runner = TaskRunner(settings)
    except SubjectError:
        yield "loading"
        return
    for precision in stage["precisions"]:
        for task in plan([role], (), [precision]):
            if task.property in _OTHER_PROCESSES:
                continue
            result = runner.run(task, unheard, until=Level.STRICTNESS)
            if result.status is Status.VIOLATED:
                yield f"{task.property}, {precision}"
    runner.session.close()


def _catalogue(stage: Mapping[str, Any], scratch: Path) -> Iterator[str]:
    """What the catalogue of known faults and right implementations has against it."""
    # It imports the properties, which may be mutated.
    from tests.mutation.catalogue import catalogue_findings

    yield from catalogue_findings(stage, scratch)


def _tests(stage: Mapping[str, Any], scratch: Path) -> Iterator[str]:
    """The first test that fails."""
    import pytest

    failed: list[str] = []
    seconds: dict[str, float] = {}
    left_out, expected = set(stage.get("left_out", ())), stage.get("seconds", {})

    class Listening:
        @pytest.hookimpl(trylast=True)
        def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
            items[:] = [item for item in items if item.nodeid not in left_out]
            items.sort(key=lambda item: expected.get(item.nodeid, 0.0))

        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            seconds[report.nodeid] = seconds.get(report.nodeid, 0.0) + report.duration
            if report.failed:
                failed.append(report.nodeid.partition("[")[0])

        def pytest_collectreport(self, report: pytest.CollectReport) -> None:
            if report.failed:
                failed.append(f"import of {report.nodeid}")

    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(scratch)
    os.environ.pop("PYTEST_ADDOPTS", None)
    quiet = ["-q", "-x", "--no-header", "-p", "no:cacheprovider", "-p", "no:randomly", f"--basetemp={scratch / 'tmp'}"]
    ignored = [f"--ignore-glob=*{part}*" for part in stage.get("without", ())]
    code = pytest.main([*quiet, *ignored, *stage["arguments"]], plugins=[Listening()])
    if folder := os.environ.get("MUTATION_REACHED"):
        Path(folder, "seconds.json").write_text(json.dumps(seconds), encoding="utf-8")
    if failed:
        yield failed[0]
    elif code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        yield f"pytest's exit code {int(code)}"


_JUDGES = {"goldens": _goldens, "check": _check, "catalogue": _catalogue, "tests": _tests}

if __name__ == "__main__":
    main()
