"""Cases are drawn once for all that draw the same."""

from __future__ import annotations

from pathlib import Path

from hypothesis import Phase, given, seed
from hypothesis import strategies as st

from harness.cases.descriptors import Case
from harness.cases.strategies import loss_cases
from harness.config import Settings
from harness.engine.draws import Draws
from harness.engine.events import CaseStarted, Event
from harness.engine.plan import Task
from harness.engine.run import TaskRunner
from harness.engine.search import hypothesis_settings, run_quietly
from harness.subject_spec import SubjectKind


def test_they_are_what_a_search_would_run() -> None:
    run: dict[Case, None] = {}

    @seed(7)
    @hypothesis_settings(40, (Phase.generate,))
    @given(loss_cases())
    def search(case: Case) -> None:
        run.setdefault(case)

    run_quietly(search)
    assert Draws().cases(loss_cases(), 40, 7) == tuple(run)


def test_they_are_drawn_once() -> None:
    draws, drawn = Draws(), []
    strategy = st.integers().map(lambda number: drawn.append(number) or number)
    first = draws.cases(strategy, 20, 1)  # type: ignore[arg-type]
    so_many = len(drawn)
    assert draws.cases(strategy, 20, 1) == first  # type: ignore[arg-type]
    assert len(drawn) == so_many
    assert draws.cases(strategy, 20, 2) != first  # type: ignore[arg-type]


def test_every_precision_has_the_same_and_every_property_its_own(tmp_path: Path) -> None:
    path = tmp_path / "loss.py"
    path.write_text("def mse(x, y):\n    return ((x - y) ** 2).mean()\n")
    runner = TaskRunner(Settings(loss=f"{path}:mse", truth="mse", max_examples=10))
    told: list[Event] = []

    def cases(name: str, precision: str) -> list[Case]:
        told.clear()
        runner.run(Task(SubjectKind.LOSS, name, precision), told.append)
        return [event.case for event in told if isinstance(event, CaseStarted)]

    alike = cases("symmetry", "float32")
    # A quarter of ten, and the cases that are always run.
    assert len(alike) >= 5
    assert cases("symmetry", "cpu-autocast-bfloat16") == alike
    assert cases("batch", "float32") != alike
