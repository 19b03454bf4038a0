"""The goldens as tests of a user's own pytest run: one for each golden and precision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.config import load_settings
from harness.errors import HarnessError, UsageError
from harness.goldens.checking import check_one
from harness.goldens.folder import GoldenFolder
from harness.goldens.outcome import Outcome, Status
from harness.goldens.recording import update
from harness.goldens.suite import GoldenSpec, selected
from harness.reports.golden_text import outcome_lines


def golden_items(session: pytest.Session, config: pytest.Config) -> Iterator[pytest.Item]:
    """The tests that ``--harness-golden`` adds.

    Raises:
        HarnessError: the suite can't be read, or goldens are to be recorded without a reason.
    """
    regenerate = config.getoption("force_regen") or config.getoption("regen_all")
    if regenerate and not (config.getoption("harness_golden_reason") or "").strip():
        raise UsageError("recording goldens needs a reason, which is kept in the files: --harness-golden-reason=TEXT.")
    flags = {
        "golden_dir": config.getoption("harness_golden_dir"),
        "subject_root": config.getoption("harness_subject_root"),
    }
    settings = load_settings(flags, directory=config.rootpath)
    goldens = GoldenFolder(Path(settings.golden_dir), settings.subject_root)
    collector = _Goldens.from_parent(session, name="harness-golden", goldens=goldens)
    yield from collector.collect()


class _Goldens(pytest.Collector):
    """Parent of the goldens' tests."""

    def __init__(self, *, goldens: GoldenFolder, **kwargs: object) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self.goldens = goldens

    def collect(self) -> Iterator[pytest.Item]:
        for spec in selected(self.goldens.specs, self.config.getoption("harness_golden") or None):
            if self.config.getoption("regen_all"):
                # All of a golden's precisions are in one file, which is written once.
                yield _GoldenTest.from_parent(self, name=f"golden-{spec.name}", spec=spec, precision=None)
                continue
            for precision in spec.precisions:
                name = f"golden-{spec.name}[{precision}]"
                yield _GoldenTest.from_parent(self, name=name, spec=spec, precision=precision)


class _GoldenTest(pytest.Item):
    """One golden under one precision, or under all where it is recorded anew."""

    def __init__(self, *, spec: GoldenSpec, precision: str | None, **kwargs: object) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self.spec, self.precision = spec, precision

    def runtest(self) -> None:
        assert isinstance(self.parent, _Goldens)
        goldens = self.parent.goldens
        if self.precision is None:
            self._record(goldens)
            return
        (outcome,) = check_one(goldens, self.spec, (self.precision,))
        if outcome.status is Status.SKIPPED:
            pytest.skip(outcome.reason)
        if outcome.status is not Status.PASSED:
            recorded = ""
            if self.config.getoption("force_regen"):
                self._record(goldens)
                recorded = "\nrecorded anew; the next run compares with it"
            raise GoldenFailed("\n".join(outcome_lines(outcome)) + recorded)

    def _record(self, goldens: GoldenFolder) -> None:
        refused = update(goldens, self.config.getoption("harness_golden_reason"), self.spec.name).refused
        if refused:
            raise GoldenFailed("\n".join(_lines(refused)))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        if isinstance(excinfo.value, (GoldenFailed, HarnessError)):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[str, None, str]:
        return "harness", None, self.name


class GoldenFailed(Exception):
    """The message says which terms moved, how far and where to."""


def _lines(outcomes: tuple[Outcome, ...]) -> Iterator[str]:
    for outcome in outcomes:
        yield from outcome_lines(outcome)
