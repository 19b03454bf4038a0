"""What a step is seen to do, what it is held to, and who is told from whom by it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.cases.descriptors import Action, StepCase
from harness.config import Settings
from harness.engine.events import CaseStarted, Event
from harness.engine.plan import plan
from harness.engine.result import Status
from harness.engine.run import TaskRunner
from harness.errors import SubjectError, UsageError
from harness.kinds.registry import load_subject
from harness.oracle.policies import PROMISED
from harness.subject_spec import SubjectKind, SubjectSpec
from harness.subjects.step import StepFactory

_PUBLIC = str(Path(__file__).parents[1] / "subjects" / "public_steps.py")
_BAD = "harness.subjects.known_bad.steps"
_FP16 = "cpu-autocast-float16"

_NO_GRADIENTS = "no gradients at all"
_SCHEDULE = "the schedule on a dropped window"
_NAN = "NaN gradients without a scaler"
_LARGE = "a large, finite norm"
_INF = "an infinite loss with finite gradients"
_CLIP = "gradients"
_ZERO = "a clip norm of 0"


def _factory(name: str) -> StepFactory:
    spec = name if ":" in name else f"{_PUBLIC}:{name}"
    found = load_subject(SubjectKind.STEP, SubjectSpec(spec))
    assert isinstance(found, StepFactory)
    return found


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        (
            "recipe",
            {
                _CLIP: "clips to a norm of 1",
                _LARGE: "steps",
                _INF: "steps",
                _NAN: "poisons the parameters",
                _NO_GRADIENTS: "raises AssertionError",
                _SCHEDULE: "holds",
            },
        ),
        ("advancing", {_CLIP: "clips to a norm of 0.5", _SCHEDULE: "advances"}),
        ("NativeScaler", {_CLIP: "clips each element to 1", _LARGE: "steps", _ZERO: "zeroes all gradients"}),
        ("Careful", {_CLIP: "does not clip", _NAN: "drops the window", _NO_GRADIENTS: "drops the window"}),
        ("Limited", {_LARGE: "drops the window over 5", _INF: "drops the window", _SCHEDULE: "holds"}),
        (
            "unscaled",
            {
                "overflowing gradients with a scaler": "poisons the parameters",
                "the scale after an overflow": "stays",
                _NO_GRADIENTS: "drops the window",
            },
        ),
        ("keeps_gradients", {"gradients after a dropped window": "left"}),
        ("without_update", {"the scale after an overflow": "stays"}),
        (
            "gslrm.training.amp_step:AmpStep",
            {
                _CLIP: "clips to a norm of 1",
                _LARGE: "drops the window over 20",
                _INF: "drops the window",
                _NAN: "drops the window",
                _NO_GRADIENTS: "drops the window",
                _ZERO: "means no clipping",
                "its count of updates on a dropped window": "holds",
            },
        ),
        (f"{_BAD}:StepBeforeFix", {_SCHEDULE: "advances", _INF: "drops the window", _ZERO: "drops every window"}),
    ],
)
def test_the_table_says_what_the_step_does(name: str, rows: dict[str, str]) -> None:
    table = dict(_factory(name).table)
    assert {question: table[question] for question in rows} == rows


def test_no_two_of_different_make_look_alike() -> None:
    names = ("recipe", "advancing", "NativeScaler", "Careful", "Limited", "unscaled", f"{_BAD}:StepBeforeFix")
    assert len({_factory(name).table for name in names}) == len(names)


def test_only_who_is_handed_a_limit_promises_it() -> None:
    assert _factory("gslrm.training.amp_step:AmpStep").policies == PROMISED
    # What 0 means was never agreed with it: it drops every window.
    assert _factory(f"{_BAD}:StepBeforeFix").policies == replace(PROMISED, zero_clips_nothing=False)
    found = _factory("Limited").policies
    assert found.norm_limit == pytest.approx(5.0, rel=1e-3)
    assert (found.clip_norm, found.drops_nonfinite_loss) == (None, True)
    assert _factory("recipe").policies.norm_limit is None


def _violated(name: str, precision: str) -> set[str]:
    settings = Settings(step=f"{_PUBLIC}:{name}", max_examples=40)
    runner = TaskRunner(settings)
    tasks = [task for task in plan((SubjectKind.STEP,), (), (precision,)) if task.property != "ranks-agree"]
    results = [runner.run(task, lambda _: None) for task in tasks]
    return {result.task.property for result in results if result.status is Status.VIOLATED}


@pytest.mark.parametrize(
    ("name", "precision", "violated"),
    [
        ("Careful", _FP16, set()),
        ("Careful", "float32", set()),
        ("Limited", _FP16, set()),
        ("Limited", "float32", set()),
        # True of them: no inf check is recorded where there is no gradient; and nothing holds a NaN back without a
        # scaler.
        ("recipe", _FP16, {"no-gradients"}),
        ("recipe", "float32", {"finite-parameters", "drops-bad-windows"}),
        ("advancing", _FP16, {"no-gradients", "schedule"}),
        ("NativeScaler", _FP16, {"no-gradients"}),
        ("without_update", _FP16, {"never-raises", "no-gradients", "scale"}),
        ("keeps_gradients", _FP16, {"no-gradients", "drops-bad-windows"}),
    ],
)
def test_it_is_held_to_what_every_step_owes_and_to_what_it_does_itself(
    name: str, precision: str, violated: set[str]
) -> None:
    found = _violated(name, precision)
    if name == "keeps_gradients":
        # What a window that is left over does to the next may show in more than one way.
        assert violated <= found
    else:
        assert found == violated


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("OtherArguments", r"called as OtherArguments.optimizer_step\(result\), but wants"),
        ("RaisesWhenBuilt", r"RaisesWhenBuilt\(\) raised ValueError: no data"),
    ],
)
def test_what_fails_on_a_good_window_is_a_misfit(name: str, says: str) -> None:
    with pytest.raises(SubjectError, match=says):
        _factory(name)


@pytest.mark.parametrize(
    ("promise", "violated"),
    [
        ((), set()),
        (("norm-limit=5",), set()),
        (("norm-limit=20",), {"drops-bad-windows", "right-update", "schedule"}),
        (("norm-limit=none", "clip-norm=1"), {"drops-bad-windows", "right-update", "schedule"}),
        (("drops-nonfinite-loss=no",), {"drops-bad-windows", "right-update", "schedule"}),
    ],
)
def test_it_is_held_to_what_it_was_said_to_promise(promise: tuple[str, ...], violated: set[str]) -> None:
    settings = Settings(step=f"{_PUBLIC}:Limited", promises=promise, max_examples=60)
    runner = TaskRunner(settings)
    names = ("drops-bad-windows", "right-update", "schedule", "scale", "never-raises")
    results = [runner.run(task, lambda _: None) for task in plan((SubjectKind.STEP,), names, ("float32",))]
    assert {result.task.property for result in results if result.status is Status.VIOLATED} == violated


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"promises": ("norm-limits=3",)}, "did you mean 'norm-limit'"),
        ({"promises": ("norm-limit=-3",)}, "a number above 0, or none"),
        ({"promises": ("drops-nonfinite-loss=3",)}, "yes or no"),
        ({"without": ("inf-losses",)}, "did you mean 'inf-loss'"),
    ],
)
def test_what_can_not_be_promised_or_left_out_is_named(more: dict[str, tuple[str, ...]], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        load_subject(SubjectKind.STEP, SubjectSpec(f"{_PUBLIC}:Limited", **more))  # type: ignore[arg-type]


def test_a_fault_can_be_left_out(tmp_path: Path) -> None:
    task = plan((SubjectKind.STEP,), ("never-raises",), (_FP16,))[0]
    spec = f"{_BAD}:StepAfterReport"
    seen: list[StepCase] = []

    def listen(event: Event) -> None:
        if isinstance(event, CaseStarted):
            assert isinstance(event.case, StepCase)
            seen.append(event.case)

    without = ("inf-loss", "nan-loss")
    result = TaskRunner(Settings(step=spec, without=without, cases_dir=str(tmp_path))).run(task, listen)
    assert not {Action.INF_LOSS, Action.NAN_LOSS} & {action for case in seen for action in case.actions}
    assert result.status is Status.HELD
    assert TaskRunner(Settings(step=spec, cases_dir=str(tmp_path))).run(task, listen).status is Status.VIOLATED


def test_a_clip_norm_is_varied_where_it_is_known_what_becomes_of_it() -> None:
    assert set(_factory("gslrm.training.amp_step:AmpStep").clips) == {0.0, 0.25, 1.0, 4.0, None}
    assert set(_factory("NativeScaler").clips) == {0.25, 1.0, 4.0, None}
    assert set(_factory("recipe").clips) == {1.0}
    for promise, clips in (("norm-limit=20", {1.0}), ("zero-clips-nothing=no", {0.25, 1.0, 4.0, None})):
        spec = SubjectSpec("gslrm.training.amp_step:AmpStep", promises=(promise,))
        factory = load_subject(SubjectKind.STEP, spec)
        assert isinstance(factory, StepFactory)
        assert set(factory.clips) == clips
