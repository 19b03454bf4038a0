"""All that is said of a subject travels with it, through every command."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from harness.cases.descriptors import LossCase
from harness.cases.serialization import case_to_json
from harness.cli.main import main
from harness.config import Settings, load_settings
from harness.engine.events import CaseStarted, TaskFinished
from harness.engine.plan import Task
from harness.engine.result import Status, TaskResult
from harness.errors import UsageError
from harness.findings.case_file import CaseFile, read_case_file
from harness.findings.recorder import CaseRecorder
from harness.goldens.golden_file import read_golden
from harness.goldens.suite import read_suite
from harness.goldens.terms import Words
from harness.subject_spec import SubjectKind, SubjectSpec, subject_from_json
from harness.subjects.loss import load_loss

# A similarity that is a loss' complement only with the right argument; wrong by a hundredth with another.
SUBJECT = """
import torch

class Similar(torch.nn.Module):
    def __init__(self, off: float):
        super().__init__()
        self.off = off

    def forward(self, x, y):
        return 1.0 - (1.0 + self.off) * (x - y).square().mean()
"""


@pytest.fixture
def spec(tmp_path: Path) -> str:
    (tmp_path / "similar.py").write_text(SUBJECT)
    return f"{tmp_path}/similar.py:Similar"


def _found(spec: str, tmp_path: Path) -> Path:
    cases = tmp_path / "cases"
    options = ["--loss", spec, "--similarity", "--truth", "mse", "--argument", "off=0.01", "--cases-dir", str(cases)]
    narrow = ["--property", "accuracy", "--precision", "float32", "--max-examples", "5", "--workers", "1"]
    assert main(["check", *options, *narrow]) == 1
    # The first, the worst and the smallest that failed: any of them will do.
    path, *_ = cases.glob("loss.accuracy.*.json")
    return path


def test_what_check_was_told_is_in_the_case_and_replayed(spec: str, tmp_path: Path) -> None:
    path = _found(spec, tmp_path)
    assert read_case_file(path).subject == SubjectSpec(spec, None, True, "mse", {"off": 0.01})
    assert main(["replay", str(path)]) == 1
    # The same subject with another argument keeps the rest of what the file says.
    assert main(["replay", str(path), "--argument", "off=0.0"]) == 0


def test_what_the_file_says_of_its_subject_does_not_hold_for_another(spec: str, tmp_path: Path) -> None:
    path = _found(spec, tmp_path)
    (tmp_path / "plain.py").write_text("def loss(x, y):\n    return (x - y).square().mean()\n")
    assert main(["replay", str(path), "--loss", f"{tmp_path}/plain.py:loss", "--truth", "mse"]) == 0


def test_explain_takes_what_replay_takes(spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _found(spec, tmp_path)
    assert main(["explain", str(path), "--brief"]) == 0
    assert "(mse)" in capsys.readouterr().out
    (tmp_path / "plain.py").write_text("def loss(x, y):\n    return 1 - (x - y).abs().mean()\n")
    other = ["--loss", f"{tmp_path}/plain.py:loss", "--similarity", "--truth", "ssim"]
    assert main(["explain", str(path), "--brief", *other]) == 0
    said = capsys.readouterr().out
    assert "plain.py:loss" in said
    assert "(ssim)" in said


def test_a_golden_may_be_of_a_similarity(spec: str, tmp_path: Path) -> None:
    (tmp_path / "suite.toml").write_text(
        f'[case.plain]\n[group.similar]\nkind = "loss"\nsubject = "{spec}"\nsimilarity = true\ntruth = "mse"\n'
        'arguments = { off = 0.0 }\ncases = ["plain"]\nprecisions = ["float32"]\n'
    )
    (golden,) = read_suite(tmp_path)
    assert golden.subject == SubjectSpec(spec, None, True, "mse", {"off": 0.0})
    assert main(["golden", "update", "--golden-dir", str(tmp_path), "--reason", "new"]) == 0
    assert main(["golden", "check", "--golden-dir", str(tmp_path)]) == 0


def test_compare_gives_both_their_arguments(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--similarity", "--truth", "mse", "--argument", "off=0.01", "--max-examples", "3"]
    assert main(["compare", spec, spec, *options]) == 0
    assert "AGREE" in capsys.readouterr().out


def test_settings_give_it_whole(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.harness]\nloss = "m:L"\nsimilarity = true\ntruth = "mse"\narguments = { a = 1 }\nstep = "m:S"\n'
    )
    settings = load_settings({}, directory=tmp_path, environment={})
    assert settings.subject(SubjectKind.LOSS) == SubjectSpec("m:L", None, True, "mse", {"a": 1})
    assert settings.subject(SubjectKind.STEP) == SubjectSpec("m:S")
    # What goes with the default subject doesn't go with another.
    other = load_settings({"loss": "n:L"}, directory=tmp_path, environment={})
    assert other.subject(SubjectKind.LOSS) == SubjectSpec("n:L", truth="auto")
    assert Settings().subject(SubjectKind.LOSS) is None


def test_arguments_are_json_or_text() -> None:
    given = ["a=1", "b=x y", "c=[1, 2]", "d=true"]
    assert load_settings({"loss": "m:L", "arguments": given}).arguments == {"a": 1, "b": "x y", "c": [1, 2], "d": True}
    with pytest.raises(UsageError, match=r"--argument is .*, which is not NAME=VALUE"):
        load_settings({"loss": "m:L", "arguments": ["novalue"]})


def test_the_environment_takes_several_arguments_as_one_table() -> None:
    table = {"HARNESS_ARGUMENTS": '{"a": 1, "b": "x"}'}
    assert load_settings({"loss": "m:L"}, environment=table).arguments == {"a": 1, "b": "x"}
    one = {"HARNESS_ARGUMENTS": "a={1"}
    assert load_settings({"loss": "m:L"}, environment=one).arguments == {"a": "{1"}


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("a=NaN", "a number is nan, which is not finite"),
        ("a=[1, -Infinity]", "a number is -inf, which is not finite"),
        ("a=" + "[" * 100_000, "nested"),
        ("a=" + "[" * 70 + "]" * 70, "nested more than 64 deep"),
        ("a=1" + "0" * 30, "beyond 64 bits"),
    ],
    ids=["nan", "inf", "endless", "deep", "long"],
)
def test_arguments_that_no_case_file_can_hold_are_refused(written: str, why: str) -> None:
    with pytest.raises(UsageError, match=f"^--argument is .*{why}"):
        load_settings({"loss": "m:L", "arguments": [written]}, environment={})


def test_a_list_in_the_settings_is_of_text(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.harness]\nloss = "m:L"\narguments = [3]\n')
    with pytest.raises(UsageError, match=r"arguments in .* is \[3\], which is not NAME=VALUE"):
        load_settings({}, directory=tmp_path, environment={})


def test_arguments_given_for_a_step_alone_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.harness]\nloss = "m:L"\nstep = "m:S"\n')
    for step in ("m:T", ""):
        with pytest.raises(UsageError, match="a step takes no arguments"):
            load_settings({"step": step, "arguments": ["a=1"]}, directory=tmp_path, environment={})
    with_loss = load_settings({"step": "m:T", "loss": "m:L", "arguments": ["a=1"]}, directory=tmp_path, environment={})
    assert with_loss.arguments == {"a": 1}


def test_a_constructor_that_changes_its_arguments_changes_no_file(tmp_path: Path) -> None:
    (tmp_path / "greedy.py").write_text(
        "class Greedy:\n    def __init__(self, many):\n        many.append(1)\n"
        "    def __call__(self, x, y):\n        return (x - y).square().mean()\n\n"
        "def count(device, many):\n    many.append(1)\n    return {'count': len(many)}\n"
    )
    subject = SubjectSpec(f"{tmp_path}/greedy.py:Greedy", None, False, "mse", {"many": []})
    load_loss(subject)
    assert subject.arguments == {"many": []}
    (tmp_path / "suite.toml").write_text(
        f'[group.count]\nkind = "function"\nsubject = "{tmp_path}/greedy.py:count"\n'
        'arguments = { many = [] }\nprecisions = ["float32", "cpu-autocast-bfloat16"]\n'
    )
    assert main(["golden", "update", "--golden-dir", str(tmp_path), "--reason", "new"]) == 0
    recorded = read_golden(tmp_path / "recorded" / "count.json")
    assert recorded.subject["arguments"] == {"many": []}
    assert {entry.terms["count"] for entry in recorded.recorded.values()} == {Words((1,))}


def test_a_golden_says_that_it_is_of_a_similarity(
    spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def suite(similarity: str) -> None:
        (tmp_path / "suite.toml").write_text(
            f'[case.plain]\n[group.similar]\nkind = "loss"\nsubject = "{spec}"\nsimilarity = {similarity}\n'
            'arguments = { off = 0.0 }\ncases = ["plain"]\nprecisions = ["float32"]\n'
        )

    suite("true")
    assert main(["golden", "update", "--golden-dir", str(tmp_path), "--reason", "new"]) == 0
    suite("false")
    assert main(["golden", "check", "--golden-dir", str(tmp_path)]) == 1
    assert "recorded of another case or subject" in capsys.readouterr().out


def test_what_a_golden_of_another_kind_can_not_have_is_refused(tmp_path: Path) -> None:
    for key, why in (("similarity = true", "said of a loss, not of a step"), ("arguments = { a = 1 }", "a step takes")):
        (tmp_path / "suite.toml").write_text(
            f'[case.plain]\n[group.some]\nkind = "step"\nsubject = "m:S"\n{key}\n'
            'cases = ["plain"]\nprecisions = ["float32"]\n'
        )
        with pytest.raises(UsageError, match=why):
            read_suite(tmp_path)


def test_reports_say_how_the_subject_was_called(spec: str, tmp_path: Path) -> None:
    told = ["--similarity", "--truth", "mse", "--argument", "off=0.01"]
    file = tmp_path / "report.json"
    assert main(["compare", spec, spec, *told, "--max-examples", "2", "--json", str(file)]) == 0
    said = json.loads(file.read_text())
    assert (said["similarity"], said["truth"], said["arguments"]) == (True, "mse", {"off": 0.01})
    assert main(["explain", str(_found(spec, tmp_path)), "--brief", "--json", str(file)]) == 0
    said = json.loads(file.read_text())
    assert (said["subject"], said["root"]) == (spec, None)
    assert (said["similarity"], said["truth"]["name"], said["arguments"]) == (True, "mse", {"off": 0.01})


def test_the_case_in_hand_is_whole_whatever_the_arguments_take(tmp_path: Path) -> None:
    settings = Settings(loss="m:L", cases_dir=str(tmp_path), arguments={"table": list(range(3000))})
    record, task = CaseRecorder(settings), Task(SubjectKind.LOSS, "range", "float32")
    for case in (LossCase(height=111, width=111), LossCase(height=11, width=11)):
        record(CaseStarted(task, case))
        (path,) = tmp_path.glob("in-flight.*.json")
        assert read_case_file(path).case == case
    record(TaskFinished(task, TaskResult(task, Status.HELD)))


def test_old_case_files_keep_their_names_and_are_read() -> None:
    task = Task(SubjectKind.LOSS, "range", "float32")
    plain = CaseFile.of(Settings(loss="m:L", truth="masked-ssim"), task, LossCase())
    identity = json.dumps(["m:L", None, case_to_json(LossCase())], sort_keys=True)
    assert plain.file_name().split(".")[3] == hashlib.sha256(identity.encode()).hexdigest()[:10]
    with_arguments = CaseFile.of(Settings(loss="m:L", arguments={"a": 1}), task, LossCase())
    assert with_arguments.file_name() != plain.file_name()
    assert "arguments" not in plain.as_json(Path("x.json"))["subject"]


def test_it_survives_json() -> None:
    whole = SubjectSpec("m:L", "here", True, "mse", {"a": [1, "x"]})
    assert subject_from_json(json.loads(json.dumps(whole.as_json())), "file") == whole
    assert subject_from_json({"spec": "m:L"}, "file") == SubjectSpec("m:L")
    for broken in ({}, {"spec": 3}, {"spec": "m:L", "arguments": []}, {"spec": "m:L", "similarity": 1}, "m:L"):
        with pytest.raises(UsageError, match=r"^file: "):
            subject_from_json(broken, "file")
