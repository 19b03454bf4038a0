"""What a subject prints and warns of is counted and kept out of the report, and the first fault can end a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.engine.events import SubjectWarning
from harness.engine.subject_output import LAST_LINES, SubjectOutput
from harness.engine.subject_warnings import MOST_DIFFERENT, OTHERS, SubjectWarnings
from harness.findings.case_file import read_case_file
from tests.harness.engine.processes import wait_until_gone

NOISY = Path(__file__).with_name("noisy.py")
_SAID = ("what a subject says", "what a subject complains of", "UserWarning: an odd image")


@dataclass
class Checked:
    """A finished check: its exit code, outputs and report."""

    code: int
    out: str
    err: str
    report: dict[str, Any]


def _check(folder: Path, *arguments: str) -> Checked:
    command = [sys.executable, "-m", "harness", "check", "--truth", "mse", "--precision", "float16-inputs"]
    command += ["--precision", "float32", "--max-examples", "5", "--json", "report.json", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=folder, env=environment)
    assert not wait_until_gone(folder), "processes are left"
    return Checked(done.returncode, done.stdout, done.stderr, json.loads((folder / "report.json").read_text()))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checked, Path]:
    """A noisy run of two workers: one finds a fault while the other, which has found one, hangs in a case."""
    folder = tmp_path_factory.mktemp("noisy")
    step = ["--step", f"{NOISY}:RaisesOnceThenHangs", "--property", "never-raises"]
    loss = ["--loss", f"{NOISY}:loss", "--property", "range", "--property", "counters"]
    return _check(folder, *step, *loss, "--workers", "2", "-x"), folder


def test_the_first_fault_ends_the_run(stopped: tuple[Checked, Path]) -> None:
    checked, folder = stopped
    assert checked.code == 1, checked.err
    assert checked.report["status"] == "finished"
    cells = {(cell["property"], cell["precision"]): cell for cell in checked.report["results"]}
    faults = [key for key, cell in cells.items() if cell["status"] == "violated"]
    assert faults == [("range", "float16-inputs")]
    unrun = {key: cell["message"] for key, cell in cells.items() if cell["status"] == "not run"}
    # What the other worker was at is not run, and what it had found by then isn't lost.
    found = unrun.pop(("never-raises", "float32"))
    assert found.startswith("stopped at the first fault, with a case that fails already on record: ")
    assert "the only time" in found
    assert ("counters", "float32") in unrun
    assert set(unrun.values()) == {"stopped at the first fault"}
    assert not list((folder / ".harness" / "cases").glob("in-flight*"))
    cases = [read_case_file(path).task.property for path in (folder / ".harness" / "cases").glob("*.json")]
    assert set(cases) == {"range", "never-raises"}


def test_a_fault_is_told_as_it_comes_and_output_stays_clean(stopped: tuple[Checked, Path]) -> None:
    checked, _ = stopped
    told = [line for line in checked.err.splitlines() if line.startswith("FAULT")]
    # What the other worker had met is told too, as it was met.
    assert sorted(line.split(":")[0] for line in told) == [
        "FAULT never-raises under float32",
        "FAULT range under float16-inputs",
    ]
    assert not [said for said in _SAID[:2] if said in checked.out + checked.err]


def test_warnings_stand_once_with_their_number(stopped: tuple[Checked, Path]) -> None:
    checked, _ = stopped
    (odd,) = [one for one in checked.report["warnings"] if one["message"].startswith("an odd image of ")]
    assert odd["category"] == "UserWarning"
    (line,) = [n for n, text in enumerate(NOISY.read_text().splitlines(), 1) if text.endswith("# here")]
    assert odd["where"] == f"engine/noisy.py:{line}"
    assert odd["times"] > 5
    assert "of the subject (--verbose: each as it comes):\n  UserWarning: an odd image of " in checked.out
    assert f" ({odd['times']} times, engine/noisy.py:" in checked.out
    assert checked.out.count("an odd image") == 1
    assert "an odd image" not in checked.err


def test_of_a_crash_the_last_lines_are_shown_and_all_if_asked_for(tmp_path: Path) -> None:
    crashed = _check(tmp_path, "--loss", f"{NOISY}:crashes", "--property", "finite", "--workers", "1", "--verbose")
    (cell,) = [cell for cell in crashed.report["results"] if cell["status"] == "violated"]
    assert cell["last_words"].splitlines()[-2:] == ["line 49999", "deep in �[31mnative code"]
    assert "  printed last: line 49999\n" in crashed.out
    assert crashed.out.count("line 4") < 10
    assert crashed.err.count("line 4") > 10_000


def _warned(counted: SubjectWarnings) -> dict[str, int]:
    told = counted.taken()
    return {} if told is None else {f"{one.category}: {one.message}": times for one, times in told.warnings}


@pytest.fixture
def counted() -> Iterator[SubjectWarnings]:
    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        warnings.simplefilter("ignore", DeprecationWarning)
        found = SubjectWarnings()
        found.install()
        yield found
        # What is counted is shown as well.
        assert shown
        assert not [one for one in shown if one.category is DeprecationWarning]


def test_warnings_are_counted_by_place_and_words(counted: SubjectWarnings) -> None:
    class Unspeakable(UserWarning):
        def __str__(self) -> str:
            raise ValueError("no words")

    for number in range(3):
        warnings.warn(f"number {number} of\n  \x1b three", RuntimeWarning, stacklevel=1)
        warnings.warn("ignored", DeprecationWarning, stacklevel=1)
    assert counted.has_new
    assert _warned(counted) == {"RuntimeWarning: number 0 of � three": 3}
    assert (counted.has_new, counted.taken()) == (False, None)
    warnings.showwarning(Unspeakable(), Unspeakable, "a.py", 1)
    assert [words.startswith("Unspeakable: (its words can't be had") for words in _warned(counted)] == [True]


def test_warnings_without_end_take_no_room(counted: SubjectWarnings) -> None:
    for number in range(MOST_DIFFERENT + 5):
        warnings.warn("x" * number, stacklevel=1)
    told = counted.taken()
    assert told is not None
    assert (len(told.warnings), dict(told.warnings)[OTHERS]) == (MOST_DIFFERENT + 1, 5)
    assert max(len(one.message) for one, _ in told.warnings) < 400


def test_numbers_apart_are_one_warning() -> None:
    assert SubjectWarning("A", "scale 3.5", "f:1").key == SubjectWarning("A", "scale 42.0", "f:1").key
    assert SubjectWarning("A", "scale 3", "f:1").key != SubjectWarning("A", "scale 3", "f:2").key


def test_of_output_the_last_lines_are_kept() -> None:
    output = SubjectOutput()
    assert (output.read(), output.last_lines()) == ("", "")
    os.write(output.writing, b"a\n\n 10 %\r 20 %\r\nhalf \xe2\x82")
    assert output.read() == "a\n\n 10 %\r 20 %\r\nhalf "
    assert output.last_lines() == "a\n 20 %\nhalf "
    os.write(output.writing, b"\xac\n" + b"".join(b"%d\n" % n for n in range(40)) + b"y" * 9000)
    output.read()
    lines = output.last_lines().splitlines()
    assert (len(lines), lines[0]) == (LAST_LINES, str(40 - LAST_LINES + 1))
    assert len(lines[-1]) < 400
    output.handed_over()
    assert (output.read(), output.open) == ("", False)
    output.forget()
    assert output.last_lines() == ""
    output.close()
