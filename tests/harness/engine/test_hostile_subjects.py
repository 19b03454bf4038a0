"""Whatever a subject does, it costs its own cells only, and nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.findings.case_file import read_case_file
from harness.findings.replay import Answer, replay
from tests.harness.engine.hostile_imports import HANGS_AT_EXIT, STOPS_THERE
from tests.harness.engine.processes import processes_in, wait_until_gone

HOSTILE = Path(__file__).with_name("hostile.py")
_NARROW = ("--truth", "mse", "--precision", "float32", "--precision", "float16-inputs", "--workers", "1")


@dataclass
class Checked:
    """A finished check: its exit code, output and report, and the processes it left."""

    code: int
    printed: str
    report: dict[str, Any]
    cases: Path

    def cells(self) -> dict[tuple[str, str], tuple[str, str]]:
        """Status and message by property and precision."""
        return {(r["property"], r["precision"]): (r["status"], r["message"]) for r in self.report["results"]}


def _command(folder: Path, spec: str, *more: str, properties: tuple[str, ...]) -> list[str]:
    narrow = [part for name in properties for part in ("--property", name)]
    places = ("--json", str(folder / "report.json"), "--cases-dir", str(folder / "cases"))
    return [sys.executable, "-m", "harness", "check", "--loss", spec, *_NARROW, *narrow, *places, *more]


def _check(
    folder: Path, spec: str, *more: str, properties: tuple[str, ...] = ("finite", "repeatable"), examples: int = 3
) -> Checked:
    command = _command(folder, spec, "--max-examples", str(examples), *more, properties=properties)
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=folder)
    assert "Traceback" not in done.stderr, done.stderr
    assert not wait_until_gone(folder), "processes are left"
    assert not (folder / ".hypothesis").exists()
    report = folder / "report.json"
    return Checked(
        done.returncode,
        done.stdout + done.stderr,
        json.loads(report.read_text()) if report.exists() else {},
        folder / "cases",
    )


def _statuses(checked: Checked) -> dict[tuple[str, str], str]:
    return {cell: status for cell, (status, _) in checked.cells().items()}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "ends",
            {
                "float16-inputs": f"ends the interpreter (signal {int(signal.SIGSEGV)})",
                "bfloat16-inputs": "ends the interpreter (exit code 7)",
                "cpu-autocast-float16": "still running after 8 s",
                "cpu-autocast-bfloat16": "raises SystemExit: 0",
            },
        ),
        (
            "raises",
            {
                "float16-inputs": "raises SystemExit: 1",
                "bfloat16-inputs": "raises KeyboardInterrupt",
                "cpu-autocast-float16": "raises _UnspeakableError (whose message can't be had: its __str__ raises",
                "cpu-autocast-bfloat16": "raises ValueError: �[31mlong long",
            },
        ),
    ],
)
def test_what_ends_a_call_is_a_verdict_on_it_alone(name: str, words: dict[str, str], tmp_path: Path) -> None:
    more = [part for precision in list(words)[1:] for part in ("--precision", precision)]
    checked = _check(tmp_path, f"{HOSTILE}:{name}", "--case-timeout", "8", *more)
    assert checked.code == 1, checked.printed
    for prop in ("finite", "repeatable"):
        assert checked.cells()[prop, "float32"] == ("held", "")
        for precision, expected in words.items():
            status, message = checked.cells()[prop, precision]
            assert (status, message[: len(expected)]) == ("violated", expected)
            assert len(message) < 2500
    files = {path: read_case_file(path) for path in checked.cases.glob("*.json")}
    found = {(file.task.property, file.task.precision) for file in files.values()}
    assert found == {(prop, precision) for prop in ("finite", "repeatable") for precision in words}
    assert not list(checked.cases.glob("in-flight*"))
    assert "\x1b" not in checked.printed
    assert len(checked.printed) < 20_000
    if name == "ends":
        path = next(p for p, f in files.items() if f.task.precision == "float16-inputs")
        assert _replay(path) == (1, "FAILED")
        assert _replay(path, "--loss", f"{HOSTILE}:flaky", "--truth", "mse") == (0, "FIXED")


def _replay(path: Path, *more: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "harness", "replay", str(path), *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=path.parent)
    return done.returncode, done.stdout.split(":")[0]


def test_what_a_call_changes_is_told_and_put_back(tmp_path: Path) -> None:
    more = ("--precision", "bfloat16-inputs", "--precision", "cpu-autocast-float16")
    checked = _check(tmp_path, f"{HOSTILE}:changes", *more, properties=("accuracy", "side-effects", "strides"))
    words = {
        "float16-inputs": "working directory",
        "bfloat16-inputs": "default dtype",
        "cpu-autocast-float16": "threads",
    }
    violated = {cell for cell, status in _statuses(checked).items() if status != "held"}
    assert violated == {("side-effects", precision) for precision in words}
    for precision, word in words.items():
        assert f"the call changed {word}" in checked.cells()["side-effects", precision][1]
    assert checked.code == 1
    # Of each the first, and the smallest where that is another.
    assert 3 <= len(list(checked.cases.glob("loss.side-effects.*.json"))) <= 6


def test_what_a_call_leaves_running_is_ended(tmp_path: Path) -> None:
    checked = _check(tmp_path, f"{HOSTILE}:leaves", "--precision", "bfloat16-inputs")
    assert checked.code == 0, checked.printed


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("exits", "raised SystemExit: 0"),
        ("ends", "ends the interpreter (exit code 5)"),
        ("segfaults", "ends the interpreter (signal 11)"),
        ("hangs", "is still running after 2 s"),
    ],
)
def test_an_import_that_does_not_come_back_is_one_sentence(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "subject.py").write_text(STOPS_THERE[name])
    checked = _check(tmp_path, "subject.py:loss", "--case-timeout", "2", properties=("finite",))
    assert checked.code == 3
    assert words in checked.printed
    assert "subject.py:loss" in checked.printed
    assert len(checked.printed.strip().splitlines()) == 1


def test_what_hangs_at_exit_does_not_hang_the_check(tmp_path: Path) -> None:
    (tmp_path / "subject.py").write_text(HANGS_AT_EXIT)
    assert _check(tmp_path, "subject.py:loss").code == 0


def test_a_flaky_loss_is_not_repeatable(tmp_path: Path) -> None:
    checked = _check(tmp_path, f"{HOSTILE}:flaky", properties=("range", "finite"), examples=50)
    assert checked.code == 1
    cells = checked.cells()
    assert (
        cells["range", "float32"][0] == cells["finite", "float32"][0] == cells["finite", "float16-inputs"][0] == "held"
    )
    status, message = cells["range", "float16-inputs"]
    assert status == "violated"
    assert message.startswith("not repeatable: it failed once (the loss is -")


def test_a_loss_that_needs_earlier_calls_says_so_and_its_case_holds_them(tmp_path: Path) -> None:
    checked = _check(tmp_path, f"{HOSTILE}:needs_an_earlier_call", properties=("range", "accuracy"))
    # The first property is run in float32 before anything was seen in float16.
    assert [cell for cell, status in _statuses(checked).items() if status != "held"] == [("accuracy", "float32")]
    message = checked.cells()["accuracy", "float32"][1]
    assert message.startswith("only after other calls: ")
    (path,) = [path for path in checked.cases.glob("*.json") if read_case_file(path).message == message]
    (call,) = read_case_file(path).earlier
    assert call.task.precision == "float16-inputs"
    assert replay(path).answer is Answer.FAILED
    data = json.loads(path.read_text())
    del data["earlier"]
    path.write_text(json.dumps(data))
    # In a process that has seen no float16 images.
    assert _replay(path) == (0, "FIXED")


def test_a_case_that_fails_by_itself_is_told_rather_than_a_smaller_one_that_needs_it(tmp_path: Path) -> None:
    checked = _check(tmp_path, f"{HOSTILE}:worst_by_itself", properties=("range",), examples=50)
    message = checked.cells()["range", "float32"][1]
    assert message.startswith("the loss is -")
    told = [path for path in checked.cases.glob("*.json") if read_case_file(path).message == message]
    assert told
    for path in told:
        assert _replay(path) == (1, "FAILED")


def test_a_loss_that_always_hangs_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "subject.py").write_text(
        "import time\ndef loss(x, y):\n"
        "    if x.shape[-1] != 16 or len(x) != 1 or x[0, 0, 0, 0] != 0: time.sleep(600)\n"
        "    return (x.float() - y.float()).square().mean()\n"
    )
    properties = ("range", "finite", "accuracy", "repeatable")
    checked = _check(tmp_path, "subject.py:loss", "--case-timeout", "4", properties=properties)
    statuses = [status for status, _ in checked.cells().values()]
    assert statuses.count("violated") == 3
    assert statuses.count("not run") == 5
    assert "3 properties and precisions in a row" in checked.printed
    assert checked.code == 1


def test_a_locale_without_letters_breaks_no_report(tmp_path: Path) -> None:
    command = _command(tmp_path, f"{HOSTILE}:raises", "--max-examples", "1", properties=("finite",))
    done = subprocess.run(
        command,
        capture_output=True,
        timeout=100,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.isascii()
    assert b"raises SystemExit: 1" in done.stdout


def test_the_processes_of_a_run_can_be_told() -> None:
    """The tests above would see one that is left."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], cwd=HOSTILE.parent)
    try:
        assert process.pid in processes_in(HOSTILE.parent)
    finally:
        process.kill()
        process.wait()
    assert process.pid not in processes_in(HOSTILE.parent)
