"""A new kind of subject is a module and an entry in the registry: nothing else needs to hear of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cases.descriptors import Action, LossCase, StepCase
from harness.cases.serialization import case_to_json
from harness.comparison.side import Side
from harness.config import Settings
from harness.engine.plan import Task
from harness.engine.result import Status, TaskResult
from harness.engine.run import TaskRunner
from harness.errors import SubjectError, UsageError
from harness.findings.case_file import CaseFile, read_case_file
from harness.findings.explain import explain
from harness.findings.recorder import CaseRecorder
from harness.findings.replay import Answer, replay
from harness.kinds import registry
from harness.reports.run_model import Cell
from harness.subject_spec import SubjectKind, SubjectSpec
from tests.harness.kinds.clamping import Clampings

OURS = "gslrm.model.utils_losses:MaskedSsimLoss"
_SUBJECTS = """
def right(images): return images.clamp(0, 1)
def unclamped(images): return images
def raising(images): raise RuntimeError("no images today")
right.is_post_processing = unclamped.is_post_processing = raising.is_post_processing = True
"""


@pytest.fixture(params=list(SubjectKind), ids=lambda role: role.value)
def role(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[SubjectKind]:
    """The role in which the made-up kind is registered."""
    monkeypatch.setattr(registry, "KINDS", (Clampings(request.param), *registry.KINDS))
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def subjects(tmp_path: Path) -> str:
    """The file with functions of that kind."""
    path = tmp_path / "subjects.py"
    path.write_text(_SUBJECTS)
    return str(path)


def _settings(role: SubjectKind, spec: str, folder: Path) -> Settings:
    return Settings(**{role.value: spec}, max_examples=5, cases_dir=str(folder / "cases"))  # type: ignore[arg-type]


def _checked(settings: Settings, task: Task) -> TaskResult:
    return TaskRunner(settings).run(task, CaseRecorder(settings))


def test_it_is_checked_kept_reported_and_replayed(role: SubjectKind, subjects: str, tmp_path: Path) -> None:
    task = Task(role, "stays-in-unit-range", "cpu-autocast-bfloat16")
    assert _checked(_settings(role, f"{subjects}:right", tmp_path), task).status is Status.HELD

    wrong = _settings(role, f"{subjects}:unclamped", tmp_path)
    result = _checked(wrong, task)
    assert (result.status, result.message) == (Status.VIOLATED, "a value is -0.5")
    cell = Cell(result, wrong)
    assert (cell.case_words, cell.claim) == ("an image of 11×11", "Every value of the images lies in [0, 1].")
    assert cell.case_file is not None
    path = Path(cell.case_file)
    assert read_case_file(path).task == task
    assert replay(path).answer is Answer.FAILED
    assert replay(path, {role.value: f"{subjects}:right"}).answer is Answer.FIXED


def test_what_it_raises_is_a_violation(role: SubjectKind, subjects: str, tmp_path: Path) -> None:
    task = Task(role, "stays-in-unit-range", "float32")
    result = _checked(_settings(role, f"{subjects}:raising", tmp_path), task)
    assert result.message == "raises RuntimeError: no images today"


def test_of_another_kinds_properties_it_is_said_that_they_do_not_apply(
    role: SubjectKind, subjects: str, tmp_path: Path
) -> None:
    settings = _settings(role, f"{subjects}:right", tmp_path)
    results = [_checked(settings, Task(role, name, "float32")) for name in registry.property_names(role)[1:]]
    assert {result.status for result in results} == {Status.NOT_APPLICABLE}
    assert "" not in {result.message for result in results}


def test_a_case_is_described_by_the_kind_that_judges_it(role: SubjectKind) -> None:
    assert registry.describe(LossCase(), "stays-in-unit-range") == "an image of 16×16"
    assert "seed 0" in registry.describe(LossCase(), "range")


def test_its_case_is_not_explained_as_a_losss(role: SubjectKind, subjects: str, tmp_path: Path) -> None:
    settings = _settings(role, f"{subjects}:unclamped", tmp_path)
    path = tmp_path / "case.json"
    CaseFile.of(settings, Task(role, "stays-in-unit-range", "float32"), LossCase()).write(path)
    with pytest.raises(UsageError, match="holds the input of a post-processing: only a loss can be explained"):
        explain(path, {})


def test_a_losss_case_is_neither_replayed_nor_explained_of_it(
    subjects: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "KINDS", (Clampings(SubjectKind.LOSS), *registry.KINDS))
    path = tmp_path / "case.json"
    CaseFile.of(Settings(loss=OURS), Task(SubjectKind.LOSS, "range", "float32"), LossCase()).write(path)
    for run in (replay, explain):
        with pytest.raises(SubjectError, match=r"the case is the input of a loss, which .*:right is not"):
            run(path, {"loss": f"{subjects}:right"})  # type: ignore[operator]


def test_a_property_is_not_judged_on_another_kinds_case(tmp_path: Path) -> None:
    settings = Settings(step="gslrm.training.amp_step:AmpStep")
    path = tmp_path / "case.json"
    task = Task(SubjectKind.STEP, "ranks-agree", "float32")
    CaseFile.of(settings, task, StepCase(actions=(Action.GOOD,))).write(path)
    words = (
        "ranks-agree is judged on a pair of fault programs of a whole training, "
        "but the case is a fault program of a step that is fed losses"
    )
    with pytest.raises(UsageError, match=words):
        replay(path)


def test_only_the_default_kinds_are_compared() -> None:
    side = Side(SubjectSpec("gslrm.testing.tiny_training:TinyTraining"), "float32")
    with pytest.raises(SubjectError, match="is a training: only a loss or a fed step can be compared"):
        assert side.kind
    side.close()


def test_every_kind_is_reached_and_told_apart() -> None:
    *others, last = registry.KINDS
    assert last.recognises(object())
    assert not any(kind.recognises(object()) for kind in others)
    names = [kind.name for kind in registry.KINDS]
    assert len(names) == len(set(names))


def test_a_name_means_one_claim_for_a_role_and_a_kind_of_case_one_role() -> None:
    for one, other in itertools.combinations(registry.KINDS, 2):
        shared = {row.name for row in one.properties} & {row.name for row in other.properties}
        for name in shared:
            if one.role is other.role:
                assert one.property_named(name) is other.property_named(name)
            else:
                assert one.cases is not other.cases, f"{name}: a case file could not tell its role"


def test_every_kinds_cases_have_a_name_in_files() -> None:
    for kind in registry.KINDS:
        assert case_to_json(kind.cases())["kind"]
