"""How commands end: by which code, with what on the screen and what in files."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cases.descriptors import LossCase
from harness.cli.check import write_reports
from harness.cli.main import main
from harness.config import Settings
from harness.engine.plan import Task
from harness.findings.case_file import CaseFile, replay_command
from harness.findings.replay import settings_for
from harness.reports.json_report import report, write_report
from harness.reports.run_model import RunModel
from harness.subject_spec import SubjectKind, SubjectSpec
from harness.subjects.known_bad import KNOWN_BAD

RIGHT = "gslrm.model.utils_losses:MaskedSsimLoss"
NARROW = ("--property", "finite", "--precision", "float32", "--max-examples", "2", "--workers", "1")


def test_a_failure_of_the_harness_is_one_line_and_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import harness.findings.explain

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a slip of our own")

    monkeypatch.setattr(harness.findings.explain, "explain", broken)
    monkeypatch.chdir(tmp_path)
    assert main(["explain", "case.json"]) == 4
    printed = capsys.readouterr().err
    (file,) = (tmp_path / ".harness" / "failures").iterdir()
    assert printed == (
        f"harness: the harness itself failed (ZeroDivisionError); please report it with the file {file}\n"
    )
    assert "a slip of our own" in file.read_text()
    assert "in broken" in file.read_text()


def test_a_failure_of_the_harness_in_a_worker_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # No subject does this; it is the shortest way to a slip in a worker.
    (tmp_path / "subject.py").write_text(
        "import harness.engine.run\n"
        "def broken(*_): raise ZeroDivisionError('a slip of our own')\n"
        "harness.engine.run.TaskRunner.run = broken\n"
        "def loss(x, y): return (x - y).square().mean()\n"
    )
    report = tmp_path / "report.json"
    arguments = ["--loss", f"{tmp_path}/subject.py:loss", "--cases-dir", str(tmp_path / "h" / "cases")]
    assert main(["check", *arguments, *NARROW, "--json", str(report)]) == 4
    (file,) = (tmp_path / "h" / "failures").iterdir()
    assert "a slip of our own" in file.read_text()
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert json.loads(report.read_text())["status"] == "failed"


def test_what_was_not_run_is_not_green(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    more = ("--max-time", "0", "--cases-dir", str(tmp_path), "--json", str(report))
    assert main(["check", "--loss", RIGHT, *NARROW, *more]) == 5
    printed = capsys.readouterr().out
    assert "finite under float32: out of time" in printed
    assert "INCOMPLETE: 1 not run" in printed
    assert json.loads(report.read_text())["verdict"] == "incomplete"


def test_a_report_that_can_not_be_written_costs_no_other(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    first, second = tmp_path / "file" / "first.json", tmp_path / "second.json"
    unwritten = write_reports([(first, write_report), (second, write_report)], report(RunModel()))
    assert isinstance(unwritten, OSError)
    assert json.loads(second.read_text())["status"] == "failed"
    assert write_reports([(second, write_report)], report(RunModel())) is None


def test_the_replay_line_is_for_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "it's a $folder;"
    folder.mkdir()
    monkeypatch.chdir(folder)
    path = folder / "cases" / "a b.json"
    assert shlex.split(replay_command(path)) == ["harness", "replay", "cases/a b.json"]
    monkeypatch.chdir("/")
    assert shlex.split(replay_command(path)) == ["harness", "replay", str(path)[1:]]
    case = CaseFile.of(Settings(loss="a:b"), Task(SubjectKind.LOSS, "range", "float32"), LossCase(), "wrong")
    case.write(path)
    assert shlex.split(json.loads(path.read_text())["replay"])[:2] == ["harness", "replay"]


def test_what_a_file_says_of_its_subject_is_said_of_no_other() -> None:
    task = Task(SubjectKind.LOSS, "range", "float32")
    file = CaseFile(SubjectSpec("a:b", "/root", True, "mse"), "/pictures", task, LossCase(), 3)
    own = settings_for(file, {})
    assert (own.loss, own.subject_root, own.similarity, own.truth) == ("a:b", "/root", True, "mse")
    other = settings_for(file, {"loss": "c:d"})
    assert (other.loss, other.subject_root, other.similarity, other.truth) == ("c:d", None, False, "auto")
    assert (other.images, other.seed) == ("/pictures", 3)
    told = settings_for(file, {"loss": "c:d", "truth": "l1", "similarity": True, "subject_root": "/r", "step": "e:f"})
    assert (told.subject_root, told.similarity, told.truth, told.step) == ("/r", True, "l1", None)
    assert settings_for(file, {"loss": "a:b"}).truth == "mse"
    assert settings_for(file, Settings(loss="c:d", images="/other")).images == "/other"


def test_a_reader_that_leaves_is_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness", "check", "--loss", KNOWN_BAD[0].spec, *NARROW]
    process = subprocess.Popen([*command, "--cases-dir", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(timeout=100) == 141
    assert b"Traceback" not in errors
    assert b"Exception ignored" not in errors
