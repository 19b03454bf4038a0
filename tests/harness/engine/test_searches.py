from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
from hypothesis import strategies

from harness.cases.descriptors import Case, LossCase, Perturbation, PerturbationKind, StepCase
from harness.config import Settings
from harness.engine import case_search
from harness.engine.case_search import Asked, search_case
from harness.engine.events import CaseFailed, CaseStarted, Event, ViolationMet
from harness.engine.groups import Group, groups_of
from harness.engine.plan import Task
from harness.engine.result import NOWHERE, Elsewhere, Status, TaskResult
from harness.engine.run import TaskRunner
from harness.engine.search import Search
from harness.errors import SubjectError
from harness.kinds import losses
from harness.kinds.kind import Bench, Judged, SearchPlan, Starting
from harness.oracle.levels import Level
from harness.precision import Precision, precisions_named
from harness.properties.verdict import Verdict
from harness.subject_spec import SubjectKind
from harness.subjects.known_bad import KNOWN_BAD

LOSS, STEP = "gslrm.model.utils_losses:MaskedSsimLoss", "gslrm.training.amp_step:AmpStep"
_MUTANTS = Path(__file__).parents[1] / "properties" / "mutants.py"
BEFORE_FIX, CLAMP, STEP_BEFORE, STEP_AFTER = (known.spec for known in KNOWN_BAD)


def _run(settings: Settings, kind: str, name: str, precision: str) -> tuple[TaskResult, list[Event]]:
    events: list[Event] = []
    return TaskRunner(settings).run(Task(SubjectKind(kind), name, precision), events.append), events


def _cases(settings: Settings, kind: str, name: str) -> list[Case]:
    _, events = _run(settings, kind, name, "float32")
    return [event.case for event in events if isinstance(event, CaseStarted)]


@pytest.mark.parametrize(("kind", "spec", "name"), [("loss", LOSS, "range"), ("step", STEP, "scale")])
def test_the_seed_decides_the_cases(kind: str, spec: str, name: str) -> None:
    one, again, other = (
        _cases(Settings(**{kind: spec}, max_examples=20, seed=seed), kind, name)  # type: ignore[arg-type]
        for seed in (1, 1, 2)
    )
    assert one == again
    assert one != other
    assert len(set(one)) >= 20


def test_the_seed_decides_them_in_another_process_too() -> None:
    code = (
        "import json; from tests.harness.engine.test_searches import _cases, LOSS; from harness.config import Settings;"
        "from harness.cases.serialization import case_to_json;"
        "found = _cases(Settings(loss=LOSS, max_examples=20, seed=5), 'loss', 'finite');"
        "print(json.dumps([case_to_json(case) for case in found]))"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).resolve().parents[3],
            env={**os.environ, "CI": ci, "PYTHONHASHSEED": hash_seed},
        ).stdout
        for ci, hash_seed in (("", "1"), ("true", "2"))
    ]
    assert printed[0] == printed[1]
    assert len(json.loads(printed[0])) >= 20


# At ten seeds each `harness selfcheck` has them.
_SEEDS = range(3)


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("precision", ["cpu-autocast-bfloat16", "cuda-policy-float16"])
def test_the_loss_before_the_fix_is_convicted_by_range(seed: int, precision: str) -> None:
    result, _ = _run(Settings(loss=BEFORE_FIX, seed=seed), "loss", "range", precision)
    assert result.status is Status.VIOLATED
    assert result.worst is not None
    assert result.worst < 0 or result.worst > 2
    _assert_small(result.case)


@pytest.mark.parametrize("seed", _SEEDS)
def test_the_clamp_is_convicted_by_its_gradient_and_accuracy(seed: int) -> None:
    for name in ("gradient-alive", "accuracy"):
        result, _ = _run(Settings(loss=CLAMP, seed=seed), "loss", name, "cpu-autocast-float16")
        assert result.status is Status.VIOLATED
        _assert_small(result.case)
    assert _run(Settings(loss=CLAMP, seed=seed), "loss", "range", "cpu-autocast-float16")[0].status is Status.HELD


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize(("spec", "error"), [(STEP_BEFORE, "RuntimeError"), (STEP_AFTER, "AssertionError")])
def test_the_steps_are_convicted_of_raising(seed: int, spec: str, error: str) -> None:
    result, _ = _run(Settings(step=spec, seed=seed), "step", "never-raises", "cpu-autocast-float16")
    assert result.status is Status.VIOLATED
    assert f"raises {error}" in result.message
    assert isinstance(result.case, StepCase)
    assert result.case.micro_steps <= 3
    if spec == STEP_AFTER:
        assert [action.value for action in result.case.actions] in (["nan loss"], ["inf loss"])


def _assert_small(case: Case | None) -> None:
    assert isinstance(case, LossCase)
    assert max(case.height, case.width) <= 16
    assert case.images == 1


def test_after_a_fault_the_search_walks_to_worse_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "falls.py"
    path.write_text("def loss(x, y):\n    return (x - y).square().mean() - 100.0 * x.std() / x.shape[-1]\n")
    settings = Settings(loss=f"{path}:loss", truth="mse", max_examples=3)
    walked, _ = _run(settings, "loss", "range", "float32")
    monkeypatch.setattr(case_search, "_WALK", 0)
    stayed, _ = _run(settings, "loss", "range", "float32")
    assert walked.badness > stayed.badness > 1.0


def test_so_it_does_after_rounding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rounds.py"
    path.write_text("def loss(x, y):\n    return (x - y).square().mean() + 1e-5 * x.std() / x.shape[-1]\n")
    settings = Settings(loss=f"{path}:loss", truth="mse", max_examples=3)
    walked, _ = _run(settings, "loss", "accuracy", "float32")
    monkeypatch.setattr(case_search, "_LESSER_WALK", 0)
    stayed, _ = _run(settings, "loss", "accuracy", "float32")
    assert walked.level is stayed.level is Level.ROUNDING
    assert walked.badness > stayed.badness > 1.0


class _SeedsBelowTwenty(Bench[None, LossCase]):
    """Cases of seeds from 0 to 9, the further up the nearer to the bound, which is at a seed that isn't drawn."""

    def __init__(self, varied: Callable[[LossCase, Random], LossCase] | None) -> None:
        self._varied = varied

    def inapplicable(self, property_: None) -> str | None:
        return None

    def plan(self, property_: None, examples: int) -> SearchPlan[LossCase]:
        drawn = strategies.builds(LossCase, seed=strategies.integers(0, 9))
        return SearchPlan(drawn, examples, lambda case: True, lambda case: (), varied=self._varied)

    def judge(self, property_: None, precision: Precision, case: LossCase, starting: Starting) -> Judged:
        starting(case)
        return Judged(Verdict(case.seed < 20, case.seed, case.seed / 20, "" if case.seed < 20 else "over"), case)


def _one_more(case: LossCase, numbers: Random) -> LossCase:
    return replace(case, seed=case.seed + 1)


@pytest.mark.parametrize(("varied", "status"), [(None, Status.HELD), (_one_more, Status.VIOLATED)])
def test_a_search_walks_from_what_holds_to_what_does_not(
    varied: Callable[[LossCase, Random], LossCase] | None, status: Status
) -> None:
    (float32,) = precisions_named(["float32"])
    named = SimpleNamespace(name="range")
    asked = Asked(Task(SubjectKind.LOSS, "range", "float32"), float32, named, examples=30, seed=0)
    result = search_case(_SeedsBelowTwenty(varied), asked, lambda _: None)
    assert result.status is status
    assert result.examples <= 10 + (0 if varied is None else 15 + case_search._ROUNDS * case_search._WALK)


class _HasCasesBeside(_SeedsBelowTwenty):
    """All fail, by as much as the seed; beside each is one of a seed so many times as large."""

    def __init__(self, times: float) -> None:
        super().__init__(lambda case, numbers: case)
        self._times = times

    def plan(self, property_: None, examples: int) -> SearchPlan[LossCase]:
        plan = super().plan(property_, examples)
        first = LossCase(seed=1000)
        return replace(plan, drawn=strategies.just(first), beside=self._beside)

    def _beside(self, case: LossCase) -> tuple[LossCase, ...]:
        return replace(case, seed=case.seed - 1), replace(case, seed=int(case.seed * self._times))


@pytest.mark.parametrize(
    ("times", "elsewhere", "reached"),
    [
        pytest.param(2.0, NOWHERE, 16_000, id="four times where each gets much further"),
        pytest.param(1.1, NOWHERE, 1_100, id="once where it gets little further"),
        pytest.param(0.9, NOWHERE, 1_000, id="to no case that is less bad"),
        pytest.param(2.0, Elsewhere(badness=150.0), 16_000, id="where another precision is a little worse"),
        pytest.param(2.0, Elsewhere(badness=250.0), 1_000, id="not where another precision is far worse"),
    ],
)
def test_beside_the_worst_fault_is_looked_for_worse(times: float, elsewhere: Elsewhere, reached: int) -> None:
    (float32,) = precisions_named(["float32"])
    task, named = Task(SubjectKind.LOSS, "range", "float32"), SimpleNamespace(name="range")
    asked = Asked(task, float32, named, examples=1, seed=0, elsewhere=elsewhere)
    result = search_case(_HasCasesBeside(times), asked, lambda _: None)
    assert result.badness == reached / 20
    assert case_search._ROUNDS == 4


def test_beyond_what_is_infinite_nothing_is_looked_for() -> None:
    class Infinite(_HasCasesBeside):
        def judge(self, property_: None, precision: Precision, case: LossCase, starting: Starting) -> Judged:
            judged = super().judge(property_, precision, case, starting)
            infinite = replace(judged.verdict, badness=math.inf)
            return replace(judged, verdict=infinite) if case.seed == 999 else judged

    (float32,) = precisions_named(["float32"])
    task, named = Task(SubjectKind.LOSS, "range", "float32"), SimpleNamespace(name="range")
    result = search_case(Infinite(2.0), Asked(task, float32, named, examples=1, seed=0), lambda _: None)
    # What was drawn, and the first that is beside it.
    assert (result.badness, result.examples) == (math.inf, 2)


def test_beside_the_first_fault_nothing_is_looked_for_where_the_search_was_to_end_with_it() -> None:
    (float32,) = precisions_named(["float32"])
    task, named = Task(SubjectKind.LOSS, "range", "float32"), SimpleNamespace(name="range")
    asked = Asked(task, float32, named, examples=1, seed=0, until=Level.FAULT)
    assert search_case(_HasCasesBeside(2.0), asked, lambda _: None).examples == 1


def test_what_one_precision_has_is_told_to_the_next() -> None:
    group = Group(deque([Task(SubjectKind.LOSS, "range", name) for name in ("float32", "float16-inputs")]))
    assert group.order({}).elsewhere == NOWHERE
    for seed, badness in ((0, 3.0), (1, 0.0), (0, 2.0)):
        group.remember(group.tasks[0], LossCase(seed=seed), badness)
    group.tasks.popleft()
    assert group.order({}).elsewhere == Elsewhere((LossCase(seed=0), LossCase(seed=1)), 3.0)


def test_failing_cases_are_told_before_and_after_shrinking() -> None:
    result, events = _run(Settings(loss=BEFORE_FIX), "loss", "range", "cpu-autocast-bfloat16")
    failed = [event for event in events if isinstance(event, CaseFailed)]
    assert [event.shrunk for event in failed] == [False, True]
    assert failed[-1].case == result.case
    first_run = next(i for i, e in enumerate(events) if isinstance(e, CaseStarted) and e.case == failed[0].case)
    assert first_run < events.index(failed[0])


def test_a_case_known_from_another_precision_is_tried_first() -> None:
    session = TaskRunner(Settings(loss=BEFORE_FIX))
    task = Task(SubjectKind.LOSS, "bad-input", "float32")
    first = session.run(task, lambda _: None)
    assert first.case is not None
    second = session.run(
        Task(SubjectKind.LOSS, "bad-input", "cpu-autocast-float16"), lambda _: None, Elsewhere((first.case,))
    )
    assert second.examples == 1
    assert second.case == first.case


def test_no_time_is_not_a_verdict() -> None:
    session = TaskRunner(Settings(loss=LOSS), deadline=0.0)
    assert session.run(Task(SubjectKind.LOSS, "range", "float32"), lambda _: None).status is Status.NOT_RUN


def test_a_subject_that_stops_fitting_ends_the_run(tmp_path: Path) -> None:
    path = tmp_path / "late.py"
    path.write_text("def loss(x, y):\n    return (x - y).mean() if x.shape[-1] == 16 and len(x) == 1 else (x - y)\n")
    with pytest.raises(SubjectError, match="must return one number"):
        _run(Settings(loss=f"{path}:loss", truth="masked-ssim"), "loss", "range", "float32")


def test_few_large_pictures_are_run_in_search_of_worse_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(losses, "_LARGE", ((160, 160),))
    path = tmp_path / "loss.py"
    path.write_text("def mse(x, y):\n    return ((x - y) ** 2).mean() * (0.5 if x.shape[-1] > 100 else 1)\n")
    runner = TaskRunner(Settings(loss=f"{path}:mse", truth="mse", max_examples=10))
    run: list[Case] = []
    runner.run(
        Task(SubjectKind.LOSS, "accuracy", "float32"),
        lambda event: run.append(event.case) if isinstance(event, CaseStarted) else None,
    )
    # The one that is tried first, and those of the walk: each weighs as much as four ordinary cases.
    large = [case for case in run if isinstance(case, LossCase) and max(case.height, case.width) in range(154, 167)]
    assert 10 <= len(large) <= 150 // 4 + 1


@pytest.mark.parametrize(
    ("settings", "task"),
    [
        pytest.param(
            Settings(step=STEP_AFTER), Task(SubjectKind.STEP, "never-raises", "cpu-autocast-float16"), id="first"
        ),
        pytest.param(
            Settings(loss=f"{_MUTANTS}:break_finite", truth="masked-ssim"),
            Task(SubjectKind.LOSS, "finite", "float32"),
            id="drawn",
        ),
    ],
)
def test_a_search_until_a_level_ends_with_the_first_case_that_is_as_grave(settings: Settings, task: Task) -> None:
    events: list[Event] = []
    result = TaskRunner(settings).run(task, events.append, until=Level.FAULT)
    cases = [event.case for event in events if isinstance(event, CaseStarted)]
    assert (result.status, result.level, result.case) == (Status.VIOLATED, Level.FAULT, cases[-1])
    assert 1 < result.examples == len(cases) < 100
    assert [event.shrunk for event in events if isinstance(event, CaseFailed)] == [False]


def test_a_search_until_a_level_goes_on_where_all_is_less_grave() -> None:
    task = Task(SubjectKind.LOSS, "bad-input", "float32")
    found = {}
    for until in (Level.FAULT, Level.STRICTNESS):
        runner = TaskRunner(Settings(loss=f"{_MUTANTS}:break_bad_input", truth="masked-ssim", max_examples=20))
        found[until] = runner.run(task, lambda _: None, until=until)
    assert {result.level for result in found.values()} == {Level.STRICTNESS}
    assert found[Level.FAULT].examples >= 20 > found[Level.STRICTNESS].examples


def test_what_is_met_is_told_where_it_is_graver_than_before() -> None:
    told: list[Event] = []
    search = Search(Task(SubjectKind.LOSS, "range", "float32"), told.append, None, after_fault=10)
    levels = (Level.ROUNDING, Level.ROUNDING, Level.FAULT, Level.DEFINITION, Level.FAULT)
    for seed, level in enumerate(levels):
        case = LossCase(seed=seed)
        search.ran(case, Judged(Verdict(False, 3.0, 2.0, f"words {seed}", level), case), "")
    met = [(event.level, event.message) for event in told if isinstance(event, ViolationMet)]
    assert met == [(Level.ROUNDING, "words 0"), (Level.FAULT, "words 2")]


def test_what_is_run_under_autocast_comes_first_of_each_property() -> None:
    precisions = ("float32", "cpu-autocast-float16", "bfloat16-inputs", "cuda-policy-bfloat16")
    tasks = [Task(SubjectKind.LOSS, name, precision) for name in ("range", "finite") for precision in precisions]
    groups = groups_of(tasks, ["loss"])
    assert [{task.property for task in group} for group in groups] == [{"range"}, {"finite"}]
    order = ["cuda-policy-bfloat16", "cpu-autocast-float16", "bfloat16-inputs", "float32"]
    assert [[task.precision for task in group] for group in groups] == [order, order]


@pytest.mark.parametrize("held_before", [0, 1, 5])
def test_after_a_fault_only_so_many_more_are_run(held_before: int) -> None:
    search = Search(Task(SubjectKind.LOSS, "range", "float32"), lambda event: None, None, after_fault=2)
    cases = [LossCase(seed=seed) for seed in range(held_before + 3)]
    for case in cases[:held_before]:
        search.ran(case, Judged(Verdict(True, 0.0, 0.1), case), "")
    search.ran(cases[held_before], Judged(Verdict(False, 3.0, 2.0, "words"), cases[held_before]), "")
    assert search.may_survey()
    for case in cases[held_before + 1 :]:
        search.ran(case, Judged(Verdict(False, 3.0, 2.0, "words"), case), "")
    assert not search.may_survey()


def test_where_a_case_shows_the_fault_at_once_the_search_for_worse_is_a_third_as_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "losses_beside", lambda cases, definition: None)
    path = tmp_path / "loss.py"
    path.write_text("def wrong(x, y):\n    return ((x - y) ** 2).mean() * 1.1\n")
    task = Task(SubjectKind.LOSS, "accuracy", "float32")
    numbers = {}
    for led in (False, True):
        runner = TaskRunner(Settings(loss=f"{path}:wrong", truth="mse", max_examples=90))
        # As a case that was found under another precision.
        cases = (LossCase(16, 16, perturbation=Perturbation(PerturbationKind.NOISE, 0.1)),) if led else ()
        numbers[led] = runner.run(task, lambda _: None, Elsewhere(cases)).examples
    # 90 after the fault, half as many on the way and 150 on from there; and a third of the first and the last.
    assert numbers[False] > 200
    assert numbers[True] < numbers[False] / 2
