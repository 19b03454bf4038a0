"""Two ranks that train together, a fault in one of them: they decide alike, or the line is told at which they part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.errors import ExitCode
from harness.rehearsal.faults import Fault
from harness.rehearsal.places import Script
from harness.rehearsal.processes import Processes
from harness.rehearsal.rank_rules import ranks_decide_alike, rows
from harness.rehearsal.record import Call, Did, Ending, Run, Window
from harness.rehearsal.rehearsal import Rehearsal, rehearse

RIGHT = Path(__file__).with_name("ranks_recipe.py").read_text()
BACKWARD = "        scaler.scale(loss).backward()\n"
DROP = "        if not torch.isfinite(loss):\n            optimizer.zero_grad()\n            continue\n"

Ranks = Callable[..., Rehearsal]


@pytest.fixture
def ranks(processes: Processes, tmp_path: Path) -> Ranks:
    """Rehearses a script of this text with two ranks."""

    def ranks(text: str, *faults: Fault) -> Rehearsal:
        path = tmp_path / "train.py"
        path.write_text(text)
        script = Script(str(path), arguments=(str(tmp_path),))
        return rehearse(script, faults, pretend_cuda=True, budget=300.0, processes=processes, ranks=2, patience=4.0)

    return ranks


def _line(text: str, words: str) -> str:
    return f"train.py:{next(n for n, line in enumerate(text.splitlines(), 1) if words in line)}"


def test_the_right_loop_is_acquitted(ranks: Ranks) -> None:
    rehearsal = ranks(RIGHT, Fault.NAN_OUTPUT, Fault.INF_GRADIENT, Fault.NO_GRADIENT)
    assert rehearsal.findings == []
    assert rehearsal.refused == {
        "no-gradient": "on one rank alone it makes the others wait for its gradients",
    }
    assert [(run.rank, run.ending.done, len(run.windows)) for run in rehearsal.runs] == [(0, True, 12), (1, True, 12)]
    table = dict(rehearsal.table)
    assert (table["ranks"], table["parameters of the ranks"], table["decisions of the ranks"]) == (
        "2",
        "are the same",
        "alike",
    )
    # The fault is in one rank, and reaches the other through the gradients.
    assert {"nan" in str(run.windows[4].losses) for run in rehearsal.runs} == {True, False}
    assert table["a NaN loss"] == "the scaler skips the step"


def test_its_own_processes_are_seen_too(ranks: Ranks) -> None:
    text, _, _ = RIGHT.partition('if __name__ == "__main__":\n')
    text += 'if __name__ == "__main__":\n    count = torch.cuda.device_count()\n'
    text += "    torch.multiprocessing.spawn(train, args=(count, sys.argv[1]), nprocs=count)\n"
    rehearsal = ranks(text, Fault.NAN_OUTPUT)
    assert rehearsal.findings == []
    assert [(run.rank, run.ending.done, len(run.windows)) for run in rehearsal.runs] == [(0, True, 8), (1, True, 8)]


def test_a_decision_by_each_ranks_own_loss(ranks: Ranks) -> None:
    text = RIGHT.replace(BACKWARD, BACKWARD + DROP)
    rehearsal = ranks(text, Fault.NAN_OUTPUT)
    line = _line(text, "scaler.unscale_(")
    (found,) = rehearsal.findings
    assert (found.rule, found.where, found.fault) == ("ranks-decide-alike", line, "nan-output")
    assert found.sentence == (
        f"{line}: rank 0 calls scaler.unscale_, and rank 1 does not; what differs then: the scale"
    )
    assert dict(rehearsal.table)["decisions of the ranks"] == "part: nan-output"


def test_a_schedule_by_each_ranks_own_loss(ranks: Ranks) -> None:
    text = RIGHT.replace("if torch.isfinite(norm):", "if torch.isfinite(loss):")
    found = {one.rule: one for one in ranks(text, Fault.NAN_OUTPUT).findings}
    line = _line(text, "schedule.step()")
    assert found["ranks-decide-alike"].where == line
    assert "rank 0 calls scheduler.step, and rank 1 does not" in found["ranks-decide-alike"].sentence


def test_a_rank_that_leaves_the_others_waiting(ranks: Ranks) -> None:
    """Before its backward pass, in which gradients are averaged."""
    text = RIGHT.replace(BACKWARD, DROP + BACKWARD)
    rehearsal = ranks(text, Fault.NAN_OUTPUT)
    (found,) = rehearsal.findings
    assert (found.rule, found.where) == ("ranks-decide-alike", _line(text, "backward()"))
    assert any(run.ending.stuck == found.where for run in rehearsal.runs)


def test_the_command_takes_ranks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rehearse", "--ranks", "0", "--", str(Path(__file__).with_name("ranks_recipe.py"))]) == ExitCode.USAGE
    assert "--ranks is 0, but must be from 1 to 16." in capsys.readouterr().err


def _run(rank: int, *windows: Window, ending: Ending | None = None) -> Run:
    return Run(list(windows), ending or Ending(done=True), rank=rank)


def _window(end: str, fault: str = "", moved: bool = True) -> Window:
    calls = [Call(Did.BACKWARD, "train.py:5"), Call(Did.OPTIMIZER_STEP, "train.py:7", 0, finite=True)]
    return Window(fault, calls=calls, moved=[moved], state={"end": [end]})


def test_parameters_that_drift_apart() -> None:
    one = _run(0, _window("a"), _window("b", "nan-output"), _window("c"))
    two = _run(1, _window("a"), _window("b", "nan-output"), _window("d"))
    (found,) = ranks_decide_alike([one, two])
    assert found.sentence == "train.py:7: the parameters of the ranks differ from here on"
    assert (found.where, found.fault) == ("train.py:7", "nan-output")
    assert list(ranks_decide_alike([one, one])) == []


def test_parts_of_a_model_are_no_drift() -> None:
    one, two = _run(0, _window("a"), _window("b")), _run(1, _window("x"), _window("y"))
    assert list(ranks_decide_alike([one, two])) == []
    assert ("parameters of the ranks", "differ from the beginning") in rows([[one, two]])
    two.windows[1].moved = [False]
    (found,) = ranks_decide_alike([one, two])
    assert found.sentence == "train.py:7: whether they step differs: [True] on rank 0, [False] on rank 1 from here on"


def test_one_that_waits_where_no_other_window_shows_why() -> None:
    spoilt = Window("nan-output", over=True)
    one = _run(0, _window("a"), spoilt, ending=Ending(stuck="train.py:5"))
    two = _run(1, _window("a"), spoilt, ending=Ending(stuck="train.py:9"))
    (found,) = ranks_decide_alike([one, two])
    assert found.sentence == (
        "train.py:5: waits for ever for another rank (rank 0 at train.py:5, rank 1 at train.py:9)"
    )
    assert found.fault == "nan-output"
    # Where one raised, that is why.
    one.ending = Ending(raised="ValueError: x", where="train.py:4")
    assert list(ranks_decide_alike([one, two])) == []
