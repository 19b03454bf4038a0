"""Runs that are forked from one that has learned its windows: as those that begin afresh, or not forked."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.cli.main import main
from harness.rehearsal.faults import Fault
from harness.rehearsal.fork_safety import why_not_fork
from harness.rehearsal.places import Script
from harness.rehearsal.processes import OUT_OF_TIME, Processes
from harness.rehearsal.program import Planned
from harness.rehearsal.record import Call, Did, Ending, Run, Window
from harness.rehearsal.rehearsal import Rehearsal, rehearse
from harness.reports.rehearsal import rehearsal_report

FOLDER = Path(__file__).parent
RIGHT = (FOLDER / "right_recipe.py").read_text()
SHAPES = FOLDER / "shapes"
GUARD = "    if not gradients:\n        continue\n"
BATCH = "        x = torch.randn(4, 8).to(device)\n"
BACKWARD = "        scaler.scale(loss).backward()\n"
# Whatever the machine has: torch's threads aren't started.
ALONE = "import torch\n\ntorch.set_num_threads(1)\n"
# What the file says next, and Python's own random numbers, scale the batch: each window depends on where both are.
READS = (
    "        if not step and not _:\n            import random\n            random.seed(0)\n"
    "            numbers = open(Path(given.out) / 'numbers', 'rb', buffering=0)\n"
    + BATCH.replace("torch.randn(4, 8)", "(torch.randn(4, 8) * numbers.read(1)[0] * random.random())")
)


def _edited(text: str, *edits: tuple[str, str]) -> str:
    for old, new in (("import torch\n", ALONE), *edits):
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


Rehearse = Callable[..., Rehearsal]


@pytest.fixture
def rehearsed(processes: Processes, tmp_path: Path) -> Rehearse:
    """Rehearses a script of this text."""

    def rehearsed(text: str, *faults: Fault, fork: bool = True, cuda: bool = False, more: str = "") -> Rehearsal:
        path = tmp_path / "train.py"
        path.write_text(text)
        script = Script(str(path), arguments=("--out", str(tmp_path), *more.split()))
        return rehearse(script, faults, pretend_cuda=cuda, budget=300.0, processes=processes, fork=fork)

    return rehearsed


PLAIN = _edited(RIGHT, (GUARD, ""), (BATCH, READS))
BY_HAND = _edited((SHAPES / "plain_with_rates_by_hand.py").read_text())
TWO = _edited((SHAPES / "two_optimizers.py").read_text())


@pytest.mark.parametrize(
    ("text", "cuda"),
    [(PLAIN, False), (BY_HAND, True), (TWO, True)],
    ids=["plain", "rates by hand", "two optimizers"],
)
def test_a_fork_sees_what_a_start_sees(text: str, cuda: bool, rehearsed: Rehearse, tmp_path: Path) -> None:
    (tmp_path / "numbers").write_bytes(bytes(1 + index % 7 for index in range(100)))
    found: list[dict[str, Any]] = []
    for fork in (True, False):
        rehearsal = rehearsed(text, Fault.NO_GRADIENT, Fault.NAN_OUTPUT, fork=fork, cuda=cuda)
        assert len(rehearsal.runs) > 2
        assert {run.forked for run in rehearsal.runs} == {fork}
        assert rehearsal.beginnings.startswith("forked: ") is fork
        report = rehearsal_report(rehearsal)
        del report["seconds"]
        for run in report["runs"]:
            del run["forked"]
        found.append(report)
    assert "never-raises" in {one["rule"] for one in found[0]["findings"]}
    # The table, the findings with their lines, and every window of every run.
    assert found[0] == found[1]


WORKERS = """        if not step and not _:
            from torch.utils.data import DataLoader
            loader = iter(DataLoader(range(100_000), num_workers=1))
        next(loader)
"""
THREAD = """        if not step and not _:
            import threading
            threading.Thread(target=threading.Event().wait, daemon=True).start()
"""
LIBRARY_THREAD = """        if not step and not _:
            torch.set_num_threads(2)
            torch.ones(1_000_000).add_(1)
"""
FIRST = "        if not step and not _:\n            "


@pytest.mark.parametrize(
    ("planted", "why"),
    [
        (WORKERS, "the script has child processes, as loader workers are"),
        (THREAD, "the script has more than one thread"),
        (LIBRARY_THREAD, "torch or another library runs threads, and with OMP_NUM_THREADS=1 may run none"),
        (FIRST + "kept = torch.ones(3).share_memory_()\n", "the script has memory that is shared with its forks"),
        (
            FIRST + "kept = open(Path(given.out) / 'database', 'w+')\n",
            "the script has a file open for both reading and writing",
        ),
        (FIRST + "import os\n            kept = os.pipe()\n", "the script has a connection, a pipe or a device open"),
    ],
    ids=["loader workers", "a thread", "a library's thread", "shared memory", "a database", "a pipe"],
)
def test_what_a_fork_would_miss_or_share_begins_afresh(planted: str, why: str, rehearsed: Rehearse) -> None:
    text = _edited(RIGHT, (GUARD, ""), (BATCH, planted + BATCH))
    rehearsal = rehearsed(text, Fault.NO_GRADIENT, Fault.NAN_OUTPUT, more="--accumulate 1")
    assert [(run.forked, run.afresh) for run in rehearsal.runs] == [(False, why)] * 2
    assert rehearsal.beginnings == f"afresh: {why}"
    assert [window.fault for run in rehearsal.runs for window in run.windows if window.fault] == [
        "no-gradient",
        "nan-output",
    ]


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _await_end(*processes: int) -> None:
    """They have been killed: it takes a moment."""
    until = time.monotonic() + 10.0
    while any(map(_runs, processes)) and time.monotonic() < until:
        time.sleep(0.02)
    assert [process for process in processes if _runs(process)] == []


def test_a_fork_that_hangs_is_ended_and_costs_the_others_nothing(processes: Processes, tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    hangs = (
        f"        import os\n        import time\n        with open({str(tmp_path / 'pids')!r}, 'a') as pids:\n"
        "            print(os.getpid(), file=pids)\n        if loss.isnan():\n            time.sleep(1000.0)\n"
    )
    path.write_text(_edited(RIGHT, (BACKWARD, hangs + BACKWARD)))
    script = Script(str(path))
    try:
        runs = []
        for fault, seconds in ((Fault.HUGE_NORM, 300.0), (Fault.NAN_OUTPUT, 2.0), (Fault.NAN_GRADIENT, 300.0)):
            run, _ = processes.run(script, [Planned(fault)], False, seconds, fork=True)
            runs.append(run)
    finally:
        processes.end_warm()
    first, hung, last = runs
    assert hung.ending == OUT_OF_TIME
    _await_end(*map(int, (tmp_path / "pids").read_text().split()))
    for run, fault in ((first, "huge-norm"), (last, "nan-gradient")):
        assert run.forked
        assert run.ending.done
        assert [window.fault for window in run.windows if window.fault] == [fault]


@pytest.mark.parametrize("fork", [True, False], ids=["forked", "afresh"])
def test_a_process_that_dies_of_a_fault_costs_the_others_nothing(fork: bool, rehearsed: Rehearse) -> None:
    dies = "        if loss.isnan():\n            import os\n            os.kill(os.getpid(), 11)\n"
    text = _edited(RIGHT, (BACKWARD, dies + BACKWARD))
    faults = (Fault.HUGE_NORM, Fault.NAN_OUTPUT, Fault.NAN_GRADIENT)
    rehearsal = rehearsed(text, *faults, fork=fork, more="--accumulate 1")
    assert [run.forked for run in rehearsal.runs] == [fork] * 2
    assert [window.fault for run in rehearsal.runs for window in run.windows if window.fault] == [
        "huge-norm",
        "nan-gradient",
    ]
    assert [one.fault for one in rehearsal.left] == [Fault.NAN_OUTPUT]
    assert rehearsal.refused == {"nan-output": "its process ended without a word"}


def test_nothing_is_left_running(rehearsed: Rehearse, tmp_path: Path) -> None:
    """Not the process that is forked, nor a fork, nor what a fork has started."""
    notes = (
        "        import os\n        pids = open(Path(given.out) / 'pids', 'a')\n        print(os.getpid(), file=pids)\n"
        "        if loss.isnan():\n            import subprocess\n"
        "            print(subprocess.Popen(['sleep', '1000']).pid, file=pids)\n        pids.close()\n"
    )
    text = _edited(RIGHT, (GUARD, ""), (BACKWARD, notes + BACKWARD))
    rehearsal = rehearsed(text, Fault.NAN_OUTPUT, Fault.NO_GRADIENT)
    assert [run.forked for run in rehearsal.runs] == [True] * 2
    met = {int(line) for line in (tmp_path / "pids").read_text().split()}
    assert len(met) == 1 + 2 + 2  # the process that learned, its forks, and what the NaN losses started
    _await_end(*met)


@pytest.mark.parametrize(
    ("asked", "runs", "said"),
    [
        ("auto", {"forked": True}, "\nforked: all runs are forks of one, and have their first 4 windows in common\n"),
        ("auto", {"afresh": "the script uses a GPU"}, "\nafresh: the script uses a GPU\n"),
        ("never", {}, ""),
    ],
)
def test_the_command_says_how_the_runs_began(
    asked: str,
    runs: dict[str, Any],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    spoilt = [
        Window(fault, calls=[Call(Did.BACKWARD, "train.py:7")], backwards=1) for fault in ("nan-output", "inf-output")
    ]
    given = iter([Run([Window(backwards=1), window], Ending(done=True), **runs) for window in spoilt])
    forks = []

    def run(*_: Any, fork: bool, **__: Any) -> tuple[Run, str]:
        forks.append(fork)
        return next(given), ""

    monkeypatch.setattr(Processes, "run", run)
    report = tmp_path / "report.json"
    arguments = ["--faults", "nan-output,inf-output", "--json", str(report), "--", str(FOLDER / "right_recipe.py")]
    main(["rehearse", "--fork", asked, *arguments])
    out = capsys.readouterr().out
    assert said in out
    assert ("forked: " in out or "afresh: " in out) is bool(said)
    assert forks == [asked == "auto"] * 2
    written = json.loads(report.read_text())["runs"][0]
    assert (written["forked"], written["afresh"]) == (runs.get("forked", False), runs.get("afresh"))


def test_a_gpu_in_use_is_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert why_not_fork() == "the script uses a GPU"
    assert why_not_fork(cuda_is_real=False) != "the script uses a GPU"
