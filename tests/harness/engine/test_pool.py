from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cases.descriptors import LossCase, PassKind, Perturbation, PerturbationKind, TrainingCase
from harness.config import Settings
from harness.engine.events import RunStarted
from harness.engine.groups import groups_of
from harness.engine.judge import judge_calls
from harness.engine.messages import Check, Order
from harness.engine.plan import Task, plan
from harness.engine.pool import run_pooled
from harness.engine.result import NOWHERE, Call, Elsewhere, Outcome, Status, TaskResult, outcome
from harness.engine.run import TaskRunner
from harness.engine.session import Session
from harness.engine.worker_process import WorkerProcess
from harness.errors import HarnessFailure, UsageError
from harness.findings.recorder import CaseRecorder
from harness.oracle.levels import Level
from harness.precision.registry import PRECISIONS
from harness.properties import RANKS_AGREE
from harness.subject_spec import SubjectKind, SubjectSpec
from harness.subjects.known_bad import KNOWN_BAD
from harness.subjects.loss import load_loss
from harness.trials.loss_trial import LossTrial

_HOSTILE = Path(__file__).with_name("hostile_steps.py")

_BOTH = (SubjectKind.LOSS, SubjectKind.STEP)


def test_precisions_in_which_nothing_is_run_are_named() -> None:
    with pytest.raises(UsageError, match="nothing to run: no step is run in float16-inputs; name another precision"):
        plan(_BOTH, ("scale",), ("float16-inputs",))


def test_one_process_takes_a_property_or_of_a_step_a_precision() -> None:
    tasks = plan(_BOTH, ("range", "counters", "scale", RANKS_AGREE.name), ("float32", "cpu-autocast-float16"))
    precisions = ("float32", "cpu-autocast-float16")

    def groups(*kinds: str) -> list[set[tuple[str, str]]]:
        return [{(task.property, task.precision) for task in group} for group in groups_of(tasks, kinds)]

    shared = [{(name, precision) for name in ("counters", "scale")} for precision in precisions]
    range_, ranks = ({(name, precision) for precision in precisions} for name in ("range", RANKS_AGREE.name))
    # What takes long is begun early.
    assert groups("fed step") == groups("training", "pair of ranks") == [*shared, ranks, range_]


def test_what_is_named_twice_is_run_once() -> None:
    twice = plan((SubjectKind.STEP,), ("scale", "scale"), ("float32", "float32"))
    assert twice == (Task(SubjectKind.STEP, "scale", "float32"),)


def test_results_come_in_the_plans_order(tmp_path: Path) -> None:
    step = "gslrm.testing.tiny_training:TinyTraining"
    settings = Settings(step=step, max_examples=2, workers=2, cases_dir=str(tmp_path))
    tasks = plan((SubjectKind.STEP,), ("counters", "scale"), ("cpu-autocast-float16", "float32"))
    results = run_pooled(RunStarted(tuple(tasks), settings), lambda _: None, CaseRecorder(settings))
    assert tuple(result.task for result in results) == tasks
    assert {result.status for result in results} == {Status.HELD}


def _in_the_plans_words(results: tuple[TaskResult, ...]) -> list[TaskResult]:
    return [replace(result, seconds=0.0) for result in results]


def test_any_number_of_workers_gives_the_same_results(tmp_path: Path) -> None:
    names, precisions = ("range", "bad-input", "repeatable"), ("float32", "cpu-autocast-bfloat16")
    found = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        settings = Settings(loss=KNOWN_BAD[0].spec, max_examples=20, workers=workers, cases_dir=str(folder))
        tasks = plan((SubjectKind.LOSS,), names, precisions)
        found.append(
            _in_the_plans_words(run_pooled(RunStarted(tuple(tasks), settings), lambda _: None, CaseRecorder(settings)))
        )
        assert not list(folder.glob("in-flight*"))
    assert found[0] == found[1]
    assert {result.status for result in found[0]} == {Status.HELD, Status.VIOLATED}
    # The case that bad-input was first violated by, under autocast, is the one tried next.
    second, first = (result for result in found[0] if result.task.property == "bad-input")
    assert (second.case, second.examples) == (first.case, 1)


def test_how_bad_a_fault_is_is_told_with_the_next_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Check] = []
    tell = WorkerProcess.tell

    def recorded(worker: WorkerProcess, order: Order | None) -> None:
        if isinstance(order, Check):
            told.append(order)
        tell(worker, order)

    monkeypatch.setattr(WorkerProcess, "tell", recorded)
    path = tmp_path / "loss.py"
    path.write_text("def wrong(x, y):\n    return ((x - y) ** 2).mean() * 1.1\n")
    settings = Settings(loss=f"{path}:wrong", truth="mse", max_examples=5, workers=1, cases_dir=str(tmp_path / "cases"))
    tasks = plan((SubjectKind.LOSS,), ("accuracy",), ("float32", "cpu-autocast-bfloat16"))
    found = run_pooled(RunStarted(tuple(tasks), settings), lambda _: None, CaseRecorder(settings))
    first, second = (next(result for result in found if result.task == order.task) for order in told)
    assert (told[0].elsewhere, second.level) == (NOWHERE, Level.FAULT)
    assert told[1].elsewhere.badness == first.badness > 1.0
    assert {first.case, first.worst_case} - {None} == set(told[1].elsewhere.cases)


def test_a_case_whose_value_is_infinite_is_not_told_beside_the_smallest(tmp_path: Path) -> None:
    path = tmp_path / "loss.py"
    path.write_text(
        "import torch\n"
        "def wrong(x, y):\n"
        "    right, width = ((x - y) ** 2).mean(), x.shape[-1]\n"
        "    off = width < 14 if torch.is_autocast_enabled('cpu') else width > 20\n"
        "    return right * (float('inf') if width == 192 else 1.1 if off else 1.0)\n"
    )
    settings = Settings(loss=f"{path}:wrong", truth="mse", max_examples=5, workers=1, cases_dir=str(tmp_path / "cases"))
    tasks = plan((SubjectKind.LOSS,), ("accuracy",), ("float32", "cpu-autocast-bfloat16"))
    found = run_pooled(RunStarted(tuple(tasks), settings), lambda _: None, CaseRecorder(settings))
    second, first = found
    assert isinstance(first.worst_case, LossCase)
    assert isinstance(second.case, LossCase)
    assert (first.worst_case.width, first.worst) == (192, math.inf)
    assert 20 < second.case.width < 192


def test_a_step_whose_runs_differ_is_a_verdict(tmp_path: Path) -> None:
    settings = Settings(step=f"{_HOSTILE}:FlakyStep", max_examples=30, workers=1, cases_dir=str(tmp_path))
    tasks = plan((SubjectKind.STEP,), ("never-raises", "counters"), ("float32",))
    results = run_pooled(RunStarted(tuple(tasks), settings), lambda _: None, CaseRecorder(settings))
    raised, counted = results
    assert raised.status is Status.VIOLATED
    assert raised.message.startswith(("not repeatable: ", "only after other calls: "))
    assert counted.status is Status.HELD


def test_a_step_that_exits_is_a_verdict(tmp_path: Path) -> None:
    session = TaskRunner(Settings(step=f"{_HOSTILE}:LeavesWithCodeThree", max_examples=3))
    result = session.run(Task(SubjectKind.STEP, "never-raises", "float32"), lambda _: None)
    assert (result.status, result.message) == (Status.VIOLATED, "good: raises SystemExit: 3")


def test_what_a_precision_lacks_leaves_its_cell_not_run(tmp_path: Path) -> None:
    subject = tmp_path / "subject.py"
    subject.write_text(
        "import torch\nfrom harness.errors import PrecisionError\n"
        "def loss(x, y):\n"
        "    if x.dtype == torch.float16: raise PrecisionError('CUDA autocast casts aten::new, which is unknown.')\n"
        "    return (x - y).square().mean()\n"
    )
    session = TaskRunner(Settings(loss=f"{subject}:loss", truth="mse", max_examples=3))
    results = [
        session.run(Task(SubjectKind.LOSS, "finite", precision), lambda _: None)
        for precision in ("float32", "float16-inputs", "bfloat16-inputs")
    ]
    assert [result.status for result in results] == [Status.HELD, Status.NOT_RUN, Status.HELD]
    assert results[1].message == "CUDA autocast casts aten::new, which is unknown."
    assert outcome(results, 3) is Outcome.INCOMPLETE
    assert outcome(results[::2], 2) is Outcome.HELD
    assert outcome(results[::2], 3) is Outcome.INCOMPLETE


@pytest.mark.parametrize(
    ("less", "level", "ended"),
    [("1e-7", Level.ROUNDING, Outcome.INCOMPLETE), ("1.0", Level.FAULT, Outcome.VIOLATED)],
)
def test_what_was_found_before_a_precision_proved_wanting_keeps_its_level(
    less: str, level: Level, ended: Outcome, tmp_path: Path
) -> None:
    subject = tmp_path / f"less_{level.value}.py"
    subject.write_text(
        "from harness.errors import PrecisionError\n"
        "def loss(x, y):\n"
        "    if x.shape[-1] == 88: raise PrecisionError('it has no aten::new.')\n"
        f"    return (x - y).square().mean() - {less}\n"
    )
    session = TaskRunner(Settings(loss=f"{subject}:loss", truth="mse", max_examples=3))
    equal = LossCase(perturbation=Perturbation(PerturbationKind.NONE))
    result = session.run(Task(SubjectKind.LOSS, "range", "float32"), lambda _: None, Elsewhere((equal,)))
    assert (result.status, result.level) == (Status.VIOLATED, level)
    assert result.message.endswith("(then the search ended: it has no aten::new.)")
    assert outcome([result], 1) is ended


def test_a_loss_that_fails_the_harness_is_told_from_one_that_fails() -> None:
    """What the oracle raises is never the subject's."""
    trial = LossTrial(load_loss(SubjectSpec("gslrm.training.loss_terms:l2", truth="mse")), PRECISIONS[0], LossCase())
    trial.definition = _BrokenMeaning()  # type: ignore[assignment]
    with pytest.raises(HarnessFailure, match="the oracle of broken raised ZeroDivisionError"):
        _ = trial.truth


class _BrokenMeaning:
    name = "broken"

    def truth(self, *_: object) -> None:
        raise ZeroDivisionError


def test_a_case_beyond_any_memory_is_the_harness_own_limit() -> None:
    loss = load_loss(SubjectSpec("gslrm.training.loss_terms:l2", truth="mse"))
    with pytest.raises(UsageError, match="builds cases of at most"):
        LossTrial(loss, PRECISIONS[0], LossCase(height=4096, width=4096, batch=64, views=64))


def test_of_two_processes_that_train_together_one_that_ends_is_named() -> None:
    session = Session(Settings(step=f"{_HOSTILE}:EndsInTheSecondProcess"))
    case = TrainingCase(actions=(PassKind.GOOD, PassKind.GOOD), second_rank=(PassKind.GOOD, PassKind.NAN_PIXELS))
    verdict = judge_calls(session, [Call(Task(SubjectKind.STEP, RANKS_AGREE.name, "float32"), case)])
    session.close()
    assert (verdict.holds, verdict.message) == (False, "rank 1 ends the interpreter (exit code 9)")
