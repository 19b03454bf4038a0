"""Cases are drawn once for all that draw the same."""

from __future__ import annotations

import itertools
from dataclasses import replace
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
from harness.properties import LOSS_PROPERTIES
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


def test_fewer_of_as_many_are_at_even_distances() -> None:
    draws = Draws()
    of_all = draws.cases(loss_cases(), 40, 7)
    some = draws.cases(loss_cases(), 10, 7, among=40)
    places = [of_all.index(case) for case in some]
    assert len(some) == 10
    assert places[0] == 0
    assert {second - first for first, second in itertools.pairwise(places)} <= {3, 4, 5}
    # As many as there are, and all of them, in their order.
    assert draws.cases(loss_cases(), 40, 7, among=40) == of_all


def test_properties_of_the_same_cases_have_theirs_in_common(tmp_path: Path) -> None:
    path = tmp_path / "loss.py"
    path.write_text("def mse(x, y):\n    return ((x - y) ** 2).mean()\n")
    runner = TaskRunner(Settings(loss=f"{path}:mse", truth="mse", max_examples=40))

    def cases(name: str) -> set[Case]:
        told: list[Event] = []
        runner.run(Task(SubjectKind.LOSS, name, "float32"), told.append)
        return {event.case for event in told if isinstance(event, CaseStarted)}

    most = cases("gradient-accuracy")
    for name in ("upstream-gradient", "target-gradient", "calls-add-up"):
        assert cases(name) <= most


_ALIVE_BY_SIZE = """
def loss(x, y):
    error = ((x - y) ** 2).mean()
    return error * 3 if x.shape[-1] % 2 and x.shape[-2] > 20 else error
"""


def test_what_was_passed_over_is_passed_over_when_a_case_is_made_smaller(tmp_path: Path) -> None:
    path = tmp_path / "loss.py"
    path.write_text(_ALIVE_BY_SIZE)
    runner = TaskRunner(Settings(loss=f"{path}:loss", truth="mse", max_examples=40))
    task, told = Task(SubjectKind.LOSS, "upstream-gradient", "float32"), []
    runner.run(Task(SubjectKind.LOSS, "target-gradient", "float32"), told.append)
    run = {event.case for event in told if isinstance(event, CaseStarted)}
    bench = runner.session.bench(runner.session.kind(task))
    (property_,) = [p for p in LOSS_PROPERTIES if p.name == "target-gradient"]
    plan = bench.plan(property_, 40)
    seed_ = replace(task, property=plan.draws, precision="any").seed(0, "")
    passed_over = {*runner._draws.cases(plan.drawn, 40, seed_)} - {
        *runner._draws.cases(plan.drawn, plan.examples, seed_, among=40)
    }
    assert len(passed_over) > 20
    assert not run & passed_over
    # It was made smaller all the same.
    assert len(run) > plan.examples + len(plan.first)


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
