"""``harness rehearse``, as a person runs it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.errors import ExitCode
from harness.rehearsal.faults import Fault
from harness.rehearsal.processes import OUT_OF_TIME, Processes
from harness.rehearsal.record import Call, Did, Run, Window
from harness.rehearsal.rulebook import rule_names

RIGHT = Path(__file__).with_name("right_recipe.py")


def _harness(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_where_there_is_no_gpu_one_is_pretended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    script = tmp_path / "train.py"
    script.write_text(RIGHT.read_text().replace("    if not gradients:\n        continue\n", ""))
    number = next(n for n, line in enumerate(script.read_text().splitlines(), 1) if "scaler.step(" in line)
    report = tmp_path / "report.json"
    picture = tmp_path / "windows.png"
    arguments = ["--faults", "no-gradient,nan-gradient", "--json", str(report), "--png", str(picture)]
    page = tmp_path / "page.html"
    arguments += ["--html", str(page)]
    arguments += ["--", str(script), "--device", "cuda", "--accumulate", "1"]
    code, out, err = _harness(capsys, "rehearse", *arguments)
    assert code == ExitCode.VIOLATED, err
    assert f"FAULT never-raises: train.py:{number}: AssertionError: No inf checks were recorded" in out
    assert "VIOLATED: " in out
    assert picture.read_bytes().startswith(b"\x89PNG")
    shown = page.read_text()
    assert f"<b>{number}      scaler.step(optimizer)</b>" in shown  # with its indentation
    assert "AssertionError: No inf checks were recorded" in shown
    assert "http" not in shown.split("</style>")[1]  # it loads nothing
    found = json.loads(report.read_text())
    assert found["schema"] == "harness-rehearsal/1"
    assert found["table"]["no gradients at all"] == "raises AssertionError"
    assert [(one["rule"], one["where"], one["fault"]) for one in found["findings"]] == [
        ("never-raises", f"train.py:{number}", "no-gradient")
    ]
    good, spoilt = found["runs"][1]["timeline"][1], found["runs"][1]["timeline"][4]
    assert (good["fault"], good["moved"], spoilt["fault"], spoilt["moved"]) == (None, [True], "nan-gradient", [False])
    assert spoilt["scale"] == good["scale"] / 2
    assert f"scaler.step at train.py:{number}" in spoilt["calls"]


def test_a_report_that_can_not_be_written_costs_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    picture = tmp_path / "windows.png"
    files = ["--json", str(tmp_path / "file" / "report.json"), "--png", str(picture)]
    code, out, _ = _harness(capsys, "rehearse", "--faults", "nan-gradient", *files, "--", str(RIGHT))
    assert code == ExitCode.USAGE
    assert picture.exists()
    assert "what this script does" in out


def test_what_cannot_be_pretended_is_told_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "train.py"
    script.write_text("import torch\n\ngraph = torch.cuda.CUDAGraph()\n")
    code, _, err = _harness(capsys, "rehearse", "--pretend-cuda", "--", str(script))
    assert code == ExitCode.SUBJECT
    assert "can't be rehearsed: " in err
    assert "train.py, line 3: torch.cuda.CUDAGraph() can't be pretended" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to rehearse: name the script after --"),
        (["--", "-m"], "-m needs a module's name"),
        (["--faults", "nan-outptu", "--", str(RIGHT)], "did you mean 'nan-output'?"),
        (["--budget", "soon", "--", str(RIGHT)], "must be a time such as 60s or 5m"),
        (["--", "nothing.py"], "there is no script"),
    ],
)
def test_wrong_use(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = _harness(capsys, "rehearse", *arguments)
    assert code == ExitCode.USAGE
    assert said in err


def test_out_of_time_is_incomplete(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    step = Call(Did.SCALER_STEP, "train.py:7", 0, finite=True)
    good = [Window(calls=[step], backwards=1, moved=[True]) for _ in range(4)]
    spoilt = Window("nan-output", calls=[replace(step, finite=False)], backwards=1, moved=[False])
    runs = iter([Run([*good, spoilt], OUT_OF_TIME, scaler=True), Run([], OUT_OF_TIME)])
    monkeypatch.setattr(Processes, "run", lambda *_, **__: (next(runs), ""))
    code, out, _ = _harness(capsys, "rehearse", "--no-pretend-cuda", "--", str(RIGHT))
    assert code == ExitCode.INCOMPLETE
    assert "not run within the time: inf-output, exploding-output, " in out
    assert "a NaN loss" in out
    assert "an infinite loss" not in out


def test_the_guide_lists_every_rule_and_fault() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "how-to" / "rehearse.md").read_text()
    rules, faults = text.partition("## The rules")[2].partition("## The faults")[::2]
    named = [line.split("|")[1] for line in rules.splitlines() if line.startswith("| `")]
    assert sorted(re.findall("`(.+?)`", "".join(named))) == sorted(rule_names())
    named = [line.split("|")[1] for line in faults.splitlines() if line.startswith("| `") and "`--faults`" not in line]
    assert sorted(re.findall("`(.+?)`", "".join(named))) == sorted(fault.value for fault in Fault)
