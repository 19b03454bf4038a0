"""A run that is killed and started again from its own checkpoint: what it doesn't take up is found, with the line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.errors import ExitCode, UsageError
from harness.rehearsal.faults import Fault
from harness.rehearsal.places import Script
from harness.rehearsal.processes import Processes
from harness.rehearsal.rehearsal import Rehearsal, rehearse
from harness.reports.rehearsal_picture import rehearsal_figure

RIGHT = Path(__file__).with_name("resuming_recipe.py").read_text()
FROM_FILE = "--resume {checkpoint}"

Resume = Callable[..., Rehearsal]


@pytest.fixture
def resumed(processes: Processes, tmp_path: Path) -> Resume:
    """Rehearses a script of this text, a kill and a resume with it."""

    def resumed(text: str, resume_with: str = FROM_FILE) -> Rehearsal:
        path = tmp_path / "train.py"
        path.write_text(text)
        script = Script(str(path), arguments=("--out", str(tmp_path), "--accumulate", "1"))
        return rehearse(
            script,
            (Fault.NAN_GRADIENT,),
            pretend_cuda=False,
            budget=300.0,
            processes=processes,
            resume_with=resume_with,
        )

    return resumed


def _line(text: str, words: str) -> str:
    return f"train.py:{next(n for n, line in enumerate(text.splitlines(), 1) if words in line)}"


def test_one_that_takes_up_all_is_acquitted(resumed: Resume) -> None:
    rehearsal = resumed(RIGHT)
    assert rehearsal.findings == []
    table = dict(rehearsal.table)
    assert table["started again after a kill"] == "goes on as it was"
    assert table["counters after a resume"] == "go on: step"
    # The scale that is taken up is not the one that a scaler begins with.
    resumption = rehearsal.resumption
    assert resumption is not None
    assert resumption.resumed is not None
    assert resumption.resumed.windows[0].state["scaler"]["scale"] == 512.0
    # The picture shows both at its end.
    figure = rehearsal_figure(rehearsal)
    (top,) = figure.axes[0].child_axes
    at = dict(zip([label.get_text() for label in top.get_xticklabels()], top.get_xticks(), strict=True))
    before = sum(len(run.windows) for run in rehearsal.runs)
    assert at["killed at its end"] == before
    assert at["started again"] == before + len(resumption.killed.windows)


@pytest.mark.parametrize(
    ("left_out", "kind", "said"),
    [
        ("scaler", "scaler", "the scaler's scale is 1024 after a resume, and was 512"),
        ("schedule", "learning rate", "the learning rate is 0.0099 after a resume, and would have been 0.00"),
        ("average", "running averages", "the running averages after a resume are others than those before"),
        ("model", "parameters", "the parameters after a resume are others than those before"),
    ],
)
def test_what_is_not_taken_up_is_found(left_out: str, kind: str, said: str, resumed: Resume) -> None:
    text = RIGHT.replace(f'    {left_out}.load_state_dict(found["{left_out}"])\n', "")
    rehearsal = resumed(text)
    line = _line(text, "torch.load")
    found = [(one.rule, one.where) for one in rehearsal.findings]
    assert found == [("resume-goes-on", line)]
    assert rehearsal.findings[0].sentence.startswith(f"{line}: {said}")
    assert dict(rehearsal.table)["started again after a kill"] == f"differs: {kind}"


def test_an_optimizer_that_begins_anew(resumed: Resume) -> None:
    """It has the schedule's rate, and no state."""
    text = RIGHT.replace('    optimizer.load_state_dict(found["optimizer"])\n', "").replace(
        '    schedule.load_state_dict(found["schedule"])\n',
        '    schedule.load_state_dict(found["schedule"])\n'
        '    optimizer.param_groups[0]["lr"] = schedule.get_last_lr()[0]\n',
    )
    (found,) = resumed(text).findings
    line = _line(text, "torch.load")
    assert found.sentence == (
        f"{line}: the optimizer's state is gone after a resume: its averages and step counts begin anew"
    )


def test_a_scaler_that_is_not_saved_is_told_where_it_is_saved(resumed: Resume) -> None:
    text = RIGHT.replace('"scaler": scaler, ', "").replace('    scaler.load_state_dict(found["scaler"])\n', "")
    line = _line(text, "torch.save(")
    assert [(one.rule, one.where) for one in resumed(text).findings] == [
        ("saves-the-scaler", line),
        ("resume-goes-on", line),
    ]


def test_a_counter_that_begins_anew_is_told(resumed: Resume) -> None:
    table = dict(resumed(RIGHT.replace('first = found["step"] + 1', "first = 0")).table)
    assert table["counters after a resume"] == "begin elsewhere: step"
    assert table["started again after a kill"] == "goes on as it was"


BY_ITSELF = RIGHT.replace(
    "if given.resume:\n", 'given.resume = str(Path(given.out) / "checkpoint.pt")\nif Path(given.resume).exists():\n'
)


def test_a_script_that_resumes_by_itself_is_only_started_again(resumed: Resume) -> None:
    rehearsal = resumed(BY_ITSELF, "")
    assert rehearsal.findings == []
    assert dict(rehearsal.table)["started again after a kill"] == "goes on as it was"
    wrong = BY_ITSELF.replace('    scaler.load_state_dict(found["scaler"])\n', "")
    (found,) = resumed(wrong, "").findings
    assert found.where == _line(wrong, "torch.load")


def test_one_that_does_not_is_held_to_nothing(resumed: Resume) -> None:
    rehearsal = resumed(RIGHT, "")
    assert rehearsal.findings == []
    assert dict(rehearsal.table)["started again after a kill"] == "begins anew: --resume-with says how it resumes"


def test_one_that_is_told_to_and_does_not(resumed: Resume) -> None:
    text = RIGHT.replace("if given.resume:\n", "if False:\n")
    (found,) = resumed(text).findings
    line = _line(text, "torch.save(")
    assert found.sentence == (
        f"{line}: what is saved here is not taken up when the script is started again: its parameters begin anew"
    )


def test_one_that_raises_when_it_resumes(resumed: Resume) -> None:
    text = RIGHT.replace('found["average"]', 'found["averages"]')
    (found,) = resumed(text).findings
    line = _line(text, 'found["averages"]')
    assert found.sentence == f"{line}: KeyError: 'averages', when it is started again from its checkpoint"


def test_one_that_saves_nothing(resumed: Resume) -> None:
    text = RIGHT.replace("step % 5 == 4", "step < 0").replace("default=1000", "default=20")
    rehearsal = resumed(text, "--resume nothing.pt")
    assert rehearsal.findings == []
    assert dict(rehearsal.table)["started again after a kill"] == (
        "not tried: no checkpoint with an optimizer's state was saved"
    )


def test_the_command_tries_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "train.py"
    script.write_text(RIGHT.replace('    scaler.load_state_dict(found["scaler"])\n', ""))
    arguments = ["--faults", "nan-grad", "--no-pretend-cuda", "--resume-with", FROM_FILE]
    report, page = tmp_path / "report.json", tmp_path / "page.html"
    files = ["--json", str(report), "--html", str(page)]
    code = main(["rehearse", *arguments, *files, "--", str(script), "--out", str(tmp_path), "--accumulate", "1"])
    assert code == ExitCode.VIOLATED
    found = json.loads(report.read_text())["resumption"]
    assert (found["checkpoint"], found["not tried"]) == (str(tmp_path / "checkpoint.pt"), None)
    killed, resumed = found["killed"]["timeline"], found["resumed"]["timeline"]
    # Killed two windows after a checkpoint, a skipped step before it; the new process has its own scale.
    saved = max(i for i, w in enumerate(killed) if any(call.startswith("torch.save") for call in w["calls"]))
    assert (len(killed) - saved, killed[4]["fault"]) == (3, "nan-gradient")
    assert (killed[-1]["scale"], resumed[0]["scale"]) == (512.0, 1024.0)
    assert "<summary>Killed after a checkpoint: " in page.read_text()
    assert "<summary>Started again: " in page.read_text()
    assert "FAULT resume-goes-on: train.py:" in capsys.readouterr().out
    code = main(["rehearse", *arguments, "--ranks", "2", "--", str(script)])
    assert code == ExitCode.USAGE
    assert "leave out --ranks or --resume-with" in capsys.readouterr().err


def test_no_kill_with_ranks() -> None:
    with pytest.raises(UsageError, match="leave out --ranks"):
        rehearse(Script(__file__), (), pretend_cuda=False, budget=1.0, ranks=2, resume_with="--resume x")
