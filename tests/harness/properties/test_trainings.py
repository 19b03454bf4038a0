"""A whole training is held to every property of a step, and to agreement between two processes."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import pytest

from harness.cases.descriptors import PassKind, TrainingCase
from harness.cases.serialization import case_to_json
from harness.config import Settings
from harness.engine.plan import Task, plan
from harness.engine.result import Status, TaskResult
from harness.engine.run import TaskRunner
from harness.errors import SubjectError, UsageError
from harness.findings.case_file import read_case_file
from harness.findings.recorder import CaseRecorder, case_path
from harness.findings.replay import Answer, replay
from harness.kinds.rank_pairs import RankBench, RankPairs
from harness.kinds.registry import describe
from harness.precision import precisions_named
from harness.properties import RANKS_AGREE, STEP_PROPERTIES
from harness.subject_spec import SubjectKind, SubjectSpec
from harness.subjects.step import load_fed_step
from harness.subjects.training import TrainingFactory, load_training
from harness.trials.observation import RankState
from harness.trials.rank_pair import RankPair
from harness.trials.training import TrainingTrial
from tests.harness.properties.head_training import HEAD

OURS = "gslrm.testing.tiny_training:TinyTraining"
_BROKEN = str(Path(__file__).with_name("broken_trainings.py"))
_SMALL = str(Path(__file__).with_name("small_training.py"))
_FP16 = "cpu-autocast-float16"


def _run(spec: str, name: str, precision: str = _FP16, examples: int = 100, seed: int = 0) -> TaskResult:
    settings = Settings(step=spec, max_examples=examples, seed=seed)
    return TaskRunner(settings).run(Task(SubjectKind.STEP, name, precision), lambda _: None)


@pytest.mark.parametrize(("precision", "examples"), [(_FP16, 60), ("cuda-policy-bfloat16", 12)])
def test_the_real_training_is_acquitted_of_everything(precision: str, examples: int) -> None:
    session = TaskRunner(Settings(step=OURS, max_examples=examples))
    for task in plan((SubjectKind.STEP,), (), (precision,)):
        result = session.run(task, lambda _: None)
        assert result.status is Status.HELD, result.message
        # Every pass alone, and after every other where so many are asked for, come before the drawn programs.
        if task.property not in ("no-gradients", RANKS_AGREE.name):
            assert result.examples >= (56 if examples == 60 else 12) + examples // 5


@pytest.mark.skipif(not HEAD.is_dir(), reason=f"there is no {HEAD.name} beside the repository")
def test_it_is_acquitted_on_a_real_head() -> None:
    session = TaskRunner(Settings(step=f"{Path(__file__).with_name('head_training.py')}:HeadTraining", max_examples=56))
    for name in ("never-raises", "drops-bad-windows", "right-update", "counters", "scale", "truthful"):
        result = session.run(Task(SubjectKind.STEP, name, "cuda-policy-float16"), lambda _: None)
        assert result.status is Status.HELD, result.message
        assert result.examples >= 56


@pytest.mark.parametrize("name", [p.name for p in STEP_PROPERTIES] + [RANKS_AGREE.name])
def test_a_broken_training_is_convicted(name: str) -> None:
    result = _run(f"{_BROKEN}:break_{name.replace('-', '_')}", name)
    assert result.status is Status.VIOLATED
    assert isinstance(result.case, TrainingCase)
    assert result.case.micro_steps <= 3
    assert describe(result.case, result.task.property)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *(("right-update", how) for how in ("rate", "decay", "betas", "state", "count", "momentum")),
        ("resume", "state"),
        ("drops-bad-windows", "still"),
        ("truthful", "still"),
    ],
)
def test_an_optimizer_that_is_tampered_with_is_convicted(name: str, how: str) -> None:
    result = _run(f"{_BROKEN}:break_{name.replace('-', '_')}_{how}", name, "float32")
    assert result.status is Status.VIOLATED
    assert result.message


@pytest.mark.parametrize("name", [p.name for p in STEP_PROPERTIES])
def test_plain_sgd_is_acquitted_also_on_gradients_of_zero(name: str) -> None:
    result = _run(f"{_SMALL}:SmallTraining", name)
    assert result.status is Status.HELD, result.message


def test_a_step_on_gradients_of_zero_happens_and_moves_nothing() -> None:
    factory = load_training(SubjectSpec(f"{_SMALL}:SmallTraining"))
    assert isinstance(factory, TrainingFactory)
    (float32,) = precisions_named(["float32"])
    seen = TrainingTrial(factory, float32, TrainingCase()).act(PassKind.ALL_BACKGROUND)
    assert seen.expected.stepped
    assert not seen.expected.moved
    assert not seen.before.changed(seen.after)
    assert seen.after.updates == seen.expected.updates == 1


def test_of_an_optimizer_whose_step_can_not_be_taken_alone_no_update_is_claimed() -> None:
    result = _run(f"{_SMALL}:WithClosure", "right-update", "float32")
    assert result.status is Status.NOT_APPLICABLE
    assert "the step of LBFGS can't be taken by itself: TypeError" in result.message


def test_a_raise_counts_though_the_other_process_had_not_got_so_far() -> None:
    def state(raised: str | None = None) -> RankState:
        return RankState(0.5, None, 1, 0, 0.1, 1.0, "digest", raised)

    actions = [(PassKind.GOOD, PassKind.GOOD), (PassKind.NAN_PIXELS, PassKind.GOOD)]
    raised = [state(), state("ZeroDivisionError: division by zero")]
    for first, second, rank in ((raised, [state()], 0), ([state()], raised, 1), ([], raised, 1)):
        verdict = RANKS_AGREE(actions, first, second)
        assert not verdict.holds
        assert f"rank {rank} raises ZeroDivisionError" in verdict.message
    assert RANKS_AGREE(actions, [state(), state()], [state()]).holds


def test_who_lets_the_other_process_wait_is_convicted() -> None:
    spec = f"{_BROKEN}:break_ranks_agree_hang"
    runner = TaskRunner(Settings(step=spec))
    runner.session._benches[RankPairs.name] = RankBench(load_training(SubjectSpec(spec)), pass_seconds=5.0)
    result = runner.run(Task(SubjectKind.STEP, RANKS_AGREE.name, "float32"), lambda _: None)
    assert result.status is Status.VIOLATED
    assert "had not finished a pass after 5 s: it waits for the other" in result.message


def test_the_two_processes_end_with_the_pair() -> None:
    pair = RankPair(SubjectSpec(OURS))
    pair.run("float32", TrainingCase(actions=(PassKind.GOOD,), second_rank=(PassKind.GOOD,)))
    processes = list(pair._processes)
    assert all(process.is_alive() for process in processes)
    del pair
    gc.collect()
    assert not any(process.is_alive() for process in processes)


@pytest.mark.parametrize(
    ("name", "error"), [("TrainingBeforeFix", "RuntimeError"), ("TrainingAfterReport", "AssertionError")]
)
def test_the_steps_of_the_report_are_convicted_inside_a_real_training(name: str, error: str) -> None:
    result = _run(f"{_BROKEN}:{name}", "never-raises")
    assert result.status is Status.VIOLATED
    assert f"raises {error}" in result.message
    assert isinstance(result.case, TrainingCase)
    assert result.case.micro_steps <= 3


def test_a_step_that_is_fed_losses_does_not_run_in_two_processes() -> None:
    result = _run("gslrm.training.amp_step:AmpStep", RANKS_AGREE.name)
    assert result.status is Status.NOT_APPLICABLE
    assert "only a whole training" in result.message


def test_what_happens_is_told_from_real_losses_and_gradients() -> None:
    factory = load_training(SubjectSpec(OURS))
    assert isinstance(factory, TrainingFactory)
    (fp16,) = precisions_named([_FP16])
    seen = {}
    for kind in PassKind:
        # Two good passes first: the third has the scale of the first.
        world = TrainingTrial(factory, fp16, TrainingCase(scale_exponent=10, growth_interval=2000))
        world.act(PassKind.GOOD)
        seen[kind] = world.act(kind)
    stepped = {kind for kind, observation in seen.items() if observation.expected.stepped}
    assert stepped == {PassKind.GOOD, PassKind.ALL_BACKGROUND, PassKind.ONE_PIXEL}
    for kind, why in {
        PassKind.NAN_PIXELS: "a loss in the window was NaN or inf",
        PassKind.OVERFLOW: "a loss in the window was NaN or inf",
        PassKind.FROZEN: "no parameter got a gradient",
        PassKind.RESTORE: "saved and restored",
    }.items():
        assert seen[kind].expected.why == why
    overflowing = TrainingTrial(factory, fp16, TrainingCase(scale_exponent=24)).act(PassKind.GOOD)
    assert overflowing.expected.why == "a gradient was NaN or inf"
    assert overflowing.after.scaler.scale == 2.0**23
    exploding = TrainingTrial(factory, precisions_named(["float32"])[0], TrainingCase()).act(PassKind.EXPLODING_VIEW)
    assert "exceeds 20" in exploding.expected.why


@pytest.mark.parametrize("name", ["truthful", RANKS_AGREE.name])
def test_a_finding_is_kept_and_replays(tmp_path: Path, name: str) -> None:
    settings = Settings(step=f"{_BROKEN}:break_{name.replace('-', '_')}", cases_dir=str(tmp_path))
    task = Task(SubjectKind.STEP, name, _FP16)
    result = TaskRunner(settings).run(task, CaseRecorder(settings))
    assert result.case is not None
    path = case_path(settings, task, result.case)
    assert read_case_file(path).case == result.case
    # Two more processes start for each replay of two ranks: the truthful one is seen to be mended.
    assert replay(path, Settings()).answer is Answer.FAILED
    if name == "truthful":
        assert replay(path, Settings(step=OURS)).answer is Answer.FIXED


def test_a_case_does_not_run_on_a_step_of_another_shape(tmp_path: Path) -> None:
    path = tmp_path / "case.json"
    data = {
        "schema": "harness-case/1",
        "subject": {"spec": OURS, "root": None, "similarity": False},
        "property": "counters",
        "precision": "float32",
        "case": case_to_json(TrainingCase(actions=(PassKind.GOOD,))),
        "images": None,
        "seed": 0,
        "message": None,
    }
    path.write_text(json.dumps(data))
    assert replay(path, Settings()).answer is Answer.FIXED
    with pytest.raises(SubjectError, match="of a whole training, which"):
        replay(path, Settings(step="gslrm.training.amp_step:AmpStep"))
    path.write_text(json.dumps({**data, "property": RANKS_AGREE.name}))
    with pytest.raises(UsageError, match="two programs of one length"):
        replay(path, Settings())


def test_what_is_no_training_is_named() -> None:
    with pytest.raises(SubjectError, match=r"lacks state_dict\(\)"):
        load_training(SubjectSpec(f"{_BROKEN}:Forgetful"))
    with pytest.raises(SubjectError, match="can't be constructed as NotBuilt"):
        load_training(SubjectSpec(f"{_BROKEN}:NotBuilt"))
    with pytest.raises(SubjectError, match="is a whole training"):
        load_fed_step(SubjectSpec(OURS))
