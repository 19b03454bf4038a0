"""All that is said of a subject travels with it, through every command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.config import Settings, load_settings
from harness.errors import UsageError
from harness.findings.case_file import read_case_file
from harness.goldens.suite import read_suite
from harness.subject_spec import SubjectKind, SubjectSpec, subject_from_json

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
    (path,) = cases.glob("loss.accuracy.*.json")
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
    assert other.subject(SubjectKind.LOSS) == SubjectSpec("n:L")
    assert Settings().subject(SubjectKind.LOSS) is None


def test_arguments_are_json_or_text() -> None:
    given = ["a=1", "b=x y", "c=[1, 2]", "d=true"]
    assert load_settings({"loss": "m:L", "arguments": given}).arguments == {"a": 1, "b": "x y", "c": [1, 2], "d": True}
    with pytest.raises(UsageError, match=r"--argument is .*, which is not NAME=VALUE"):
        load_settings({"loss": "m:L", "arguments": ["novalue"]})


def test_it_survives_json() -> None:
    whole = SubjectSpec("m:L", "here", True, "mse", {"a": [1, "x"]})
    assert subject_from_json(json.loads(json.dumps(whole.as_json())), "file") == whole
    assert subject_from_json({"spec": "m:L"}, "file") == SubjectSpec("m:L")
    for broken in ({}, {"spec": 3}, {"spec": "m:L", "arguments": []}, {"spec": "m:L", "similarity": 1}, "m:L"):
        with pytest.raises(UsageError, match=r"^file: "):
            subject_from_json(broken, "file")
