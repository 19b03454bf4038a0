"""What is made with the public kit is held to what it promises, and what doesn't fit is told what it wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cases.descriptors import Action, StepCase
from harness.cases.worlds import OptimizerKind, ParameterKind, World
from harness.cli.main import main
from harness.config import Settings
from harness.engine.plan import plan
from harness.engine.result import Status
from harness.engine.run import TaskRunner
from harness.kinds.registry import load_subject
from harness.precision import precisions_named
from harness.properties import STEP_PROPERTIES
from harness.subject_spec import SubjectKind, SubjectSpec
from harness.subjects.handed import Handed
from harness.subjects.step import StepFactory
from harness.trials.fed_step import FedStepTrial
from harness.trials.observation import observe_program
from harness.trials.step_parts import tiny_parts

_KIT = Path(__file__).parents[1] / "subjects" / "kit_steps.py"
_PUBLIC = _KIT.with_name("public_steps.py")


def _factory(name: str, promises: tuple[str, ...] = ()) -> StepFactory:
    found = load_subject(SubjectKind.STEP, SubjectSpec(f"{_KIT}:{name}", promises=promises))
    assert isinstance(found, StepFactory)
    return found


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        (
            "Together",
            {
                "the other where one optimizer overflows": "waits",
                "the schedule then": "holds",
                "its running averages on a dropped window": "left",
                "promised norm-limit": "none",
                "promised counts-attempts": "no",
            },
        ),
        ("ClipsApart", {"gradients": "clips each optimizer's to a norm of 2"}),
        ("BreaksItsPromise", {"a large, finite norm": "steps", "promised norm-limit": "5"}),
        (
            "high_limit",
            {
                "gradients": "clips each element to 40",
                "a large, finite norm": "drops the window over 1e+03",
                "promised": "nothing",
            },
        ),
    ],
)
def test_the_table_says_what_it_does_and_promises(name: str, rows: dict[str, str]) -> None:
    table = dict(_factory(name).table)
    assert {question: table[question] for question in rows} == rows


def test_a_promise_on_the_way_wins_over_its_own() -> None:
    factory = _factory("Together", ("norm-limit=7",))
    assert factory.policies.norm_limit == 7.0
    assert dict(factory.table)["promised norm-limit"] == "7"


@pytest.mark.parametrize(
    ("name", "precision", "violated"),
    [
        ("Together", "cpu-autocast-float16", set()),
        ("ClipsApart", "float32", set()),
        ("high_limit", "float32", set()),
        ("ClipsAsHanded", "cpu-autocast-float16", set()),
        ("LimitsAsHanded", "cpu-autocast-float16", set()),
        ("ClipsAtOne", "float32", {"right-update"}),
        ("NeedsItsSchedule", "float32", {"never-raises", "no-gradients"}),
        ("ForgetsTheScaler", "cpu-autocast-float16", {"resume"}),
        ("OneScheduleRuns", "cpu-autocast-float16", {"right-update", "schedule", "resume"}),
        ("BreaksItsPromise", "float32", {"drops-bad-windows", "right-update", "resume"}),
    ],
)
def test_it_is_held_to_what_it_says(name: str, precision: str, violated: set[str], tmp_path: Path) -> None:
    runner = TaskRunner(Settings(step=f"{_KIT}:{name}", max_examples=20, cases_dir=str(tmp_path)))
    tasks = [task for task in plan((SubjectKind.STEP,), (), (precision,)) if task.property != "ranks-agree"]
    results = {task.property: runner.run(task, lambda _: None) for task in tasks}
    assert {name for name, result in results.items() if result.status is Status.VIOLATED} == violated
    assert (results["right-update"].status is Status.NOT_APPLICABLE) == (name == "ClipsApart")


def test_it_is_handed_the_clip_norms_of_which_it_is_known_what_becomes() -> None:
    assert set(_factory("ClipsAsHanded").clips) == {0.0, 0.25, 1.0, 4.0, None}
    # Whether a limit that it was seen to have is a factor of the norm isn't known.
    assert set(_factory("LimitsAsHanded").clips) == {1.0}
    assert set(_factory("Together").clips) == {1.0}


@pytest.mark.parametrize("kind", OptimizerKind)
def test_several_optimizers_are_of_the_worlds_kind(kind: OptimizerKind) -> None:
    case = StepCase(world=World(optimizer=kind, parameters=ParameterKind.GROUPS))
    parts = tiny_parts(case, "cpu", False)
    handed = Handed(parts)
    assert [len(optimizer.param_groups) for optimizer in handed["optimizers"]] == [1, 1, 1]
    assert len(handed["schedulers"]) == 3
    for optimizer, group in zip(handed["optimizers"], parts.optimizer.param_groups, strict=True):
        assert (type(optimizer), optimizer.defaults) == (type(parts.optimizer), parts.optimizer.defaults)
        assert optimizer.param_groups == [group]


def test_averages_go_by_the_names_of_others_too() -> None:
    handed = Handed(tiny_parts(StepCase(), "cpu", False))
    ema, model = handed["ema"], handed["model"]
    ema.update_parameters(model)
    ema.update(model)
    ema.step(model.parameters())
    assert handed.averaged() == 3
    assert [p.shape for p in ema.parameters()] == [p.shape for p in model.parameters()]


def test_it_is_not_restored_inside_a_window() -> None:
    case = StepCase(accumulation=2, actions=(Action.GOOD, Action.RESTORE, Action.GOOD, Action.RESTORE, Action.GOOD))
    # The averages begin anew, as they aren't saved: no update of theirs.
    claims = [p for p in STEP_PROPERTIES if p.name in ("resume", "drops-bad-windows")]
    trial = FedStepTrial(_factory("Together"), precisions_named(("float32",))[0], case)
    seen = observe_program(trial.act, case.actions)
    verdicts = [claim.verdict(action) for action in seen for claim in claims]
    assert [verdict.message for verdict in verdicts if not verdict.holds] == []


@pytest.mark.parametrize(
    ("subject", "says"),
    [
        (
            f"{_PUBLIC}:OtherArguments",
            "called as OtherArguments.optimizer_step(result), but wants optimizer_step(epoch, ",
        ),
        (f"{_PUBLIC}:RaisesWhenBuilt", "RaisesWhenBuilt() raised ValueError: no data"),
        (f"{_KIT}:RaisesWhenItsShapeIsOurs", "can't be constructed as RaisesWhenItsShapeIsOurs(optimizer, scaler, "),
        (f"{_KIT}:RaisesWhenItBegins", "RaisesWhenItBegins().begin(optimizer) raised ValueError: no data"),
        (f"{_KIT}:WantsAnEpoch", "step(loss, epoch, last) wants epoch, and a step that is called is offered loss, "),
        (f"{_KIT}:wants_an_epoch", "wants_an_epoch(loss, optimizer, epoch) wants epoch, and a step"),
        (f"{_KIT}:BeginsWithALoss", "begin(loss) wants loss"),
        (f"{_KIT}:HasNoStep", "has no method step(loss, …)"),
    ],
)
def test_a_step_that_does_not_fit_is_one_sentence(
    subject: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _refused("--step", subject, "scale", says, tmp_path, monkeypatch, capfd)


def test_a_loss_that_gives_a_dictionary_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _refused("--loss", f"{_KIT}:gives_a_dictionary", "range", "must return one number", tmp_path, monkeypatch, capfd)


def _refused(
    option: str,
    subject: str,
    property_: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_WORKERS", "1")
    code = main(["check", option, subject, "--property", property_, "--precision", "float32", "--max-time", "30"])
    printed = capfd.readouterr()
    assert code == 3, printed.out + printed.err
    assert says in printed.err
    assert len(printed.err.strip().splitlines()) == 1
