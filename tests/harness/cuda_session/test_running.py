"""Steps that fail, hang, die and leave processes behind: each costs itself."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.cuda_session.plan import Step
from harness.cuda_session.running import StepResult, StepStatus, run_steps
from harness.cuda_session.summary import exit_code, last_line, result_line, summary
from harness.errors import ExitCode

MACHINE = {
    "environment": {
        "python": "CPython 3.12.1",
        "needed": [{"name": "torch", "version": "2.11.0+cu130"}],
        "gpu": {"names": {"value": ["A GPU"], "why_not": ""}, "driver": {"value": None, "why_not": "no driver"}},
    }
}


def _python(name: str, code: str, seconds: float = 60.0, expected: int = 0) -> Step:
    return Step(name, "for a test", (sys.executable, "-c", code), seconds, expected)


def _run(steps: Sequence[Step], folder: Path, seconds: float = 120.0) -> tuple[StepResult, ...]:
    return run_steps(steps, folder / "logs", seconds, None, lambda _: None)


def test_what_one_step_does_is_no_matter_to_the_next(tmp_path: Path) -> None:
    steps = [
        _python("fails", "raise SystemExit(3)"),
        _python("dies", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"),
        Step("absent", "for a test", (str(tmp_path / "nowhere"),), 60.0),
        _python("convicted", "print('said'); raise SystemExit(1)", expected=1),
        _python("held", "pass"),
    ]
    told: list[int] = []
    results = run_steps(steps, tmp_path / "logs", 120.0, None, lambda so_far: told.append(len(so_far)))
    assert [result.status for result in results] == [StepStatus.OTHERWISE] * 3 + [StepStatus.AS_EXPECTED] * 2
    assert [result.exit_status for result in results] == [3, -11, None, 1, 0]
    assert told == [1, 2, 3, 4, 5]
    assert results[0].message == "exit status 3, expected was 0"
    assert "FileNotFoundError" in results[2].message
    log = (tmp_path / "logs" / "convicted.log").read_text().splitlines()
    assert log[0].startswith("$ ")
    assert log[-1] == "said"


def test_a_step_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.cuda_session.running._GRACE_SECONDS", 0.5)
    # It takes no hint, and has a child that would outlive it.
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)"
    )
    slow, after = _python("hangs", code, seconds=6.0), _python("after", "pass")
    hung, next_one = _run([slow, after], tmp_path)
    assert (hung.status, hung.exit_status) == (StepStatus.TIMED_OUT, None)
    assert hung.message == "still running after 6 s"
    assert next_one.status is StepStatus.AS_EXPECTED
    _assert_gone(int((tmp_path / "child").read_text()))


def test_what_a_finished_step_left_running_ends_with_it(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))"
    )
    assert _run([_python("leaves", code)], tmp_path)[0].status is StepStatus.AS_EXPECTED
    _assert_gone(int((tmp_path / "child").read_text()))


def test_after_the_whole_time_nothing_is_started(tmp_path: Path) -> None:
    first, second = _run([_python("slow", "import time; time.sleep(600)"), _python("late", "pass")], tmp_path, 0.5)
    assert first.status is StepStatus.TIMED_OUT
    assert second.status is StepStatus.NOT_RUN
    assert "--only late" in second.message
    assert not (tmp_path / "logs" / "late.log").exists()


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([], ExitCode.HELD),
        ([StepStatus.AS_EXPECTED], ExitCode.HELD),
        ([StepStatus.AS_EXPECTED, StepStatus.NOT_RUN], ExitCode.INCOMPLETE),
        ([StepStatus.TIMED_OUT], ExitCode.INCOMPLETE),
        ([StepStatus.NOT_RUN, StepStatus.OTHERWISE], ExitCode.VIOLATED),
    ],
)
def test_the_exit_code_says_whether_all_went_as_it_should(statuses: list[StepStatus], code: ExitCode) -> None:
    assert exit_code([StepResult(_python("a", ""), status, 0, 0.0) for status in statuses]) is code


def test_the_summary_has_machine_durations_and_exit_statuses(tmp_path: Path) -> None:
    results = _run([_python("fails", "raise SystemExit(3)"), _python("held", "pass")], tmp_path)
    data = json.loads(json.dumps(summary(MACHINE, results), allow_nan=False))
    assert data["machine"] == MACHINE
    assert data["exit_code"] == 1
    assert [(s["name"], s["status"], s["exit_status"]) for s in data["steps"]] == [
        ("fails", "otherwise", 3),
        ("held", "as expected", 0),
    ]
    # To a tenth of a second, in which a step may be over.
    assert data["seconds"] >= max(s["seconds"] for s in data["steps"]) >= 0.0
    assert "see logs/fails.log" in result_line(results[0])
    assert last_line(results, tmp_path).startswith("VIOLATED: 1 of 2 steps as expected")


def _assert_gone(pid: int) -> None:
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            return  # ended, and nobody has asked for its status
        time.sleep(0.05)
    pytest.fail(f"the process {pid} is still there")
