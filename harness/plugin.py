"""The pytest plugin: a user's own test run gets the properties as tests.

``pytest --harness-loss=SPEC --harness-step=SPEC`` adds one test for each property and precision, and
``pytest --harness-golden`` one for each golden and precision.  Without these options the plugin does nothing, and
imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.config import Settings
    from harness.engine.plan import Task
    from harness.engine.run import TaskRunner

_SESSION: pytest.StashKey[TaskRunner] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("harness", "properties of a loss or an AMP step")
    group.addoption("--harness-loss", metavar="SPEC", help="check this loss (package.module:name or file.py:name)")
    group.addoption("--harness-step", metavar="SPEC", help="check this AMP training step")
    group.addoption("--harness-subject-root", metavar="DIR", help="put this checkout first on the import path")
    group.addoption("--harness-similarity", action="store_true", default=None, help="the loss returns a similarity")
    group.addoption(
        "--harness-truth", metavar="NAME", help="what the loss is meant to be, which then binds (auto: found out)"
    )
    argument = "an argument of the loss, or of its class' constructor (repeatable)"
    group.addoption("--harness-argument", action="append", metavar="NAME=VALUE", help=argument)
    group.addoption("--harness-call", metavar="CALL", help="call the loss so: 'f(x, y, 11)'")
    group.addoption("--harness-reduce", choices=("mean", "sum"), help="take this of a loss that gives a map of values")
    group.addoption("--harness-scale", type=float, metavar="NUMBER", help="multiply the loss by this before judging it")
    promise = "hold the step to a policy: norm-limit=20 (repeatable)"
    group.addoption("--harness-promise", action="append", metavar="NAME=VALUE", help=promise)
    left_out = "leave this fault out of the step's programs (repeatable)"
    group.addoption("--harness-without", action="append", metavar="FAULT", help=left_out)
    strict = "fail for every level of violation, not for faults alone"
    group.addoption("--harness-strict", action="store_true", default=None, help=strict)
    group.addoption("--harness-images", metavar="DIR", help="use these pictures instead of the bundled ones")
    group.addoption("--harness-precision", action="append", metavar="NAME", help="only this precision (repeatable)")
    group.addoption("--harness-property", action="append", metavar="NAME", help="only this property (repeatable)")
    group.addoption("--harness-max-examples", type=int, metavar="N", help="examples per test (100)")
    group.addoption("--harness-seed", type=int, metavar="N", help="the same seed gives the same cases (0)")

    group.addoption(
        "--harness-golden",
        nargs="?",
        const="",
        metavar="PATTERN",
        help="check the goldens (whose name the pattern, or a part of it, fits)",
    )
    group.addoption("--harness-golden-dir", metavar="DIR", help="the goldens' folder (golden)")
    group.addoption("--harness-golden-reason", metavar="TEXT", help="why goldens are recorded anew; kept in the files")
    regressions = (
        ("--force-regen", "record anew each golden that fails; its test fails all the same"),
        ("--regen-all", "record all goldens anew; their tests don't fail"),
    )
    for option, meaning in regressions:
        # pytest-regressions has the same two, with the same meaning: whichever plugin comes first defines them.
        with contextlib.suppress(ValueError):
            group.addoption(option, action="store_true", default=False, help=meaning)


def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the properties behind the run's own tests; every xdist worker adds the same."""
    try:
        if config.getoption("harness_loss") or config.getoption("harness_step"):
            collector = _Properties.from_parent(session, name="harness", settings=_settings(config))
            items.extend(collector.collect())
        if config.getoption("harness_golden") is not None:
            from harness.golden_tests import golden_items

            items.extend(golden_items(session, config))
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from error


def _settings(config: pytest.Config) -> Settings:
    from harness.config import load_settings

    names = {"precision": "precisions", "property": "properties", "argument": "arguments", "promise": "promises"}
    options = (
        "loss",
        "step",
        "subject_root",
        "similarity",
        "truth",
        "argument",
        "call",
        "reduce",
        "scale",
        "promise",
        "without",
        "strict",
        "images",
        "precision",
        "property",
        "max_examples",
        "seed",
    )
    flags = {names.get(name, name): config.getoption(f"harness_{name}") for name in options}
    return load_settings(flags, directory=config.rootpath)


class _Properties(pytest.Collector):
    """Parent of the property tests."""

    def __init__(self, *, settings: Settings, **kwargs: object) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self.settings = settings

    def collect(self) -> Iterator[pytest.Item]:
        from harness.engine.plan import plan
        from harness.engine.session import subject_kinds

        for task in plan(subject_kinds(self.settings), self.settings.properties, self.settings.precisions):
            name = f"{task.kind.value}-{task.property}[{task.precision}]"
            yield _PropertyTest.from_parent(self, name=name, task=task)


class _PropertyTest(pytest.Item):
    """One property under one precision."""

    def __init__(self, *, task: Task, **kwargs: object) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self.task = task

    def runtest(self) -> None:
        from harness.engine.result import Status
        from harness.findings.baseline import Standing, read_baseline
        from harness.findings.known_cases import known_cases
        from harness.findings.recorder import CaseRecorder
        from harness.process_state import one_thread
        from harness.reports.json_report import cell_report
        from harness.reports.run_model import Cell
        from harness.reports.words import violation_lines

        parent = self.parent
        assert isinstance(parent, _Properties)
        settings = parent.settings
        baseline, known = read_baseline(Path(settings.baseline)), known_cases(settings, (self.task,))
        with one_thread():
            runner = _session(self.config, settings)
            result = runner.run(self.task, CaseRecorder(settings), known=known.get(self.task, ()))
        if result.status in (Status.NOT_APPLICABLE, Status.NOT_RUN):
            pytest.skip(result.message)
        if not result.counts(settings.strict):
            return
        standing = baseline.standing(result, settings, datetime.date.today())
        entry = baseline.entry(self.task, settings)
        if standing is Standing.ACCEPTED:
            assert entry is not None
            pytest.xfail(f"accepted: {entry.words}")
        cell = Cell(result, settings, standing=standing, accepted=entry)
        raise PropertyViolated("\n  ".join(violation_lines(cell_report(cell))))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        if isinstance(excinfo.value, (PropertyViolated, HarnessError)):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[str, None, str]:
        return "harness", None, self.name


class PropertyViolated(Exception):
    """The message says what is wrong, with which case, and how to replay it."""


def _session(config: pytest.Config, settings: Settings) -> TaskRunner:
    """The loaded subjects, once for each process."""
    from harness.engine.run import TaskRunner

    if _SESSION not in config.stash:
        config.stash[_SESSION] = TaskRunner(settings)
    return config.stash[_SESSION]
