from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness.cases.descriptors import LossCase
from harness.config import Settings
from harness.engine.events import CaseStarted
from harness.engine.plan import Task
from harness.engine.run import TaskRunner
from harness.errors import SubjectError, UsageError
from harness.findings.case_file import CaseFile, read_case_file
from harness.findings.explain import explain
from harness.findings.recorder import CaseRecorder, case_path
from harness.findings.replay import Answer, replay
from harness.reports.explanation import draw_explanation
from harness.subject_spec import SubjectKind
from harness.subjects.known_bad import KNOWN_BAD

BEFORE_FIX = KNOWN_BAD[0].spec
RIGHT = "gslrm.model.utils_losses:MaskedSsimLoss"
TASK = Task(SubjectKind.LOSS, "range", "cpu-autocast-bfloat16")


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder of what a real finding leaves, and the shrunk case's file name."""
    folder = tmp_path_factory.mktemp("cases")
    settings = Settings(loss=BEFORE_FIX, cases_dir=str(folder))
    result = TaskRunner(settings).run(TASK, CaseRecorder(settings))
    assert result.case is not None
    return folder, case_path(settings, TASK, result.case).name


@pytest.fixture
def found(findings: tuple[Path, str], tmp_path: Path) -> Path:
    """A real finding's file, in a folder of the test's own."""
    shutil.copytree(findings[0], tmp_path, dirs_exist_ok=True)
    return tmp_path / findings[1]


def test_a_finding_is_kept_and_replays(found: Path) -> None:
    assert replay(found, Settings()).answer is Answer.FAILED
    replayed = replay(found, Settings(loss=RIGHT))
    assert replayed.answer is Answer.FIXED
    assert replayed.file.message
    assert not list(found.parent.glob("in-flight*"))
    # The first failing case, the worst and the shrunk one.
    assert 1 <= len(list(found.parent.glob("*.json"))) <= 3


def test_what_a_loss_is_held_to_travels_with_the_case(tmp_path: Path) -> None:
    mutants = Path(__file__).parents[1] / "properties" / "term_mutants.py"
    settings = Settings(loss=f"{mutants}:alignment_squared", truth="pixel-alignment", cases_dir=str(tmp_path))
    task = Task(SubjectKind.LOSS, "accuracy", "float32")
    result = TaskRunner(settings).run(task, CaseRecorder(settings))
    assert result.case is not None
    path = case_path(settings, task, result.case)
    assert read_case_file(path).subject.truth == "pixel-alignment"
    assert replay(path, Settings()).answer is Answer.FAILED
    right = "gslrm.testing.single_terms:PixelAlignmentTerm"
    assert replay(path, {"loss": right, "truth": "pixel-alignment"}).answer is Answer.FIXED
    explanation = explain(path, Settings())
    assert explanation.trial.truth.value != pytest.approx(explanation.value, rel=1e-3)
    draw_explanation(tmp_path / "maps.png", explanation)
    # The same case of a loss that is held to something else is another finding.
    other = CaseFile.of(Settings(loss=settings.loss), task, result.case)
    assert other.file_name() != path.name


def test_a_file_that_names_no_truth_is_of_a_masked_ssim(found: Path) -> None:
    data = json.loads(found.read_text())
    del data["subject"]["truth"]
    found.write_text(json.dumps(data))
    assert read_case_file(found).subject.truth == "masked-ssim"
    assert replay(found, Settings()).answer is Answer.FAILED


def test_a_truth_that_there_is_not_is_named(found: Path) -> None:
    data = json.loads(found.read_text())
    data["subject"]["truth"] = "beauty"
    found.write_text(json.dumps(data))
    with pytest.raises(UsageError, match="there is no truth 'beauty'"):
        replay(found, Settings())


def test_the_case_in_hand_is_on_disk_before_it_runs(tmp_path: Path) -> None:
    settings = Settings(loss=RIGHT, cases_dir=str(tmp_path))
    case = LossCase(seed=4)
    CaseRecorder(settings)(CaseStarted(TASK, case))
    (path,) = tmp_path.glob("in-flight.*.json")
    assert read_case_file(path) == CaseFile.of(settings, TASK, case)


def test_a_killed_run_leaves_the_case_in_hand(tmp_path: Path) -> None:
    subject = tmp_path / "hangs.py"
    subject.write_text(
        "import time\ndef loss(x, y):\n    if x.shape[-1] != 16: time.sleep(600)\n    return (x - y).square().mean()\n"
    )
    cases = tmp_path / "cases"
    command = [sys.executable, "-m", "harness", "check", "--loss", f"{subject}:loss", "--workers", "1"]
    process = subprocess.Popen(
        [*command, "--property", "range", "--precision", "float32", "--cases-dir", str(cases)],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 90
    while not list(cases.glob("in-flight.*.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    import os

    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (path,) = cases.glob("in-flight.*.json")
    assert read_case_file(path).task == Task(SubjectKind.LOSS, "range", "float32")


def test_a_subject_that_kills_its_process_is_named(tmp_path: Path) -> None:
    subject = tmp_path / "dies.py"
    subject.write_text(
        "import os\ndef loss(x, y):\n    if x.shape[-1] != 16: os._exit(9)\n    return (x - y).square().mean()\n"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "harness", "check", "--loss", f"{subject}:loss", "--property", "range"),
            *("--precision", "float32", "--cases-dir", str(tmp_path / "cases")),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "ends the interpreter (exit code 9)" in done.stdout
    files = list((tmp_path / "cases").glob("*.json"))
    assert files
    assert {read_case_file(path).message for path in files} == {"ends the interpreter (exit code 9)"}


def test_parallel_writers_of_one_finding_leave_it_whole(tmp_path: Path) -> None:
    code = (
        "import sys; from tests.harness.findings.test_case_files import *;"
        "s = Settings(loss=RIGHT, cases_dir=sys.argv[1]);"
        "from harness.engine.events import CaseFailed; r = CaseRecorder(s);"
        "[r(CaseFailed(TASK, LossCase(seed=i % 5), 'm' * 2000, True)) for i in range(200)]"
    )
    root = Path(__file__).resolve().parents[3]
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=root) for _ in range(3)]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0]
    files = list(tmp_path.iterdir())
    assert len(files) == 5
    assert {read_case_file(path).case for path in files} == {LossCase(seed=i) for i in range(5)}


def _spoil(data: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    return {**data, key: value}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("schema", "harness-case/99", "no case file"),
        ("case", {"kind": "loss"}, "lacks the field"),
        ("subject", "x", "subject must be an object"),
        ("property", 3, "property must be text"),
        ("property", "beauty", "no loss property 'beauty'"),
        ("precision", "float8", "no precision 'float8'"),
    ],
)
def test_damaged_files_are_named(found: Path, key: str, value: Any, words: str) -> None:
    found.write_text(json.dumps(_spoil(json.loads(found.read_text()), key, value)))
    with pytest.raises(UsageError, match=words):
        replay(found, Settings())


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read"):
        read_case_file(tmp_path / "nowhere.json")
    (tmp_path / "half.json").write_text('{"schema": ')
    with pytest.raises(UsageError, match="not valid JSON"):
        read_case_file(tmp_path / "half.json")


def test_a_subject_that_is_gone_is_named(found: Path) -> None:
    with pytest.raises(SubjectError, match="is missing"):
        replay(found, Settings(loss="gone.away:loss"))
