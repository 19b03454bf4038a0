"""``harness bench`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.bench.harness_speed import Command, commands, timed_commands
from harness.cli.main import main
from harness.errors import ExitCode, HarnessError

OURS = "gslrm.model.utils_losses:MaskedSsimLoss"


def test_it_prints_and_writes_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, picture = tmp_path / "bench.json", tmp_path / "bench.png"
    arguments = ["bench", "--loss", OURS, "--size", "1x16", "--foreground", "1", "--foreground", "0.1", "--rounds", "2"]
    arguments += ["--no-islands", "--only", "MaskedSsimLoss", "--json", str(target), "--png", str(picture)]
    assert main(arguments) == ExitCode.HELD
    printed = capsys.readouterr().out
    for told in ("1×3×16², forward and backward", "MaskedSsimLoss", "pytorch-msssim", "10 %", "×1", "Accuracy"):
        assert told in printed
    written = json.loads(target.read_text())
    assert written["format"] == "harness-bench/1"
    assert {(t["name"], t["mode"], t["scene"]["share"]) for t in written["timings"]} >= {
        ("MaskedSsimLoss", "forward and backward", 1.0),
        ("pytorch-msssim", "forward, no_grad", 0.1),
    }
    assert "torchmetrics" not in {t["name"] for t in written["timings"]}
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--size", "64"], "12x256"),
        (["--size", "1x8"], "8 pixels"),
        (["--foreground", "2"], "share"),
        (["--rounds", "0"], "--rounds is 0"),
        (["--variant", "fast"], "NAME=VALUE"),
        (["--harness", "--png", "x.png"], "--png"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--loss", OURS, *arguments]) == ExitCode.USAGE
    assert said in capsys.readouterr().err


def test_a_command_is_timed_to_its_end_or_to_a_line() -> None:
    whole = Command("all", ("no-such-command",))
    with pytest.raises(HarnessError, match="exit code 2"):
        list(timed_commands([whole], 1))


def test_the_first_fault_comes_before_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bad = "harness.subjects.known_bad.losses:LossBeforeFix"
    narrow = ("--property", "range", "--precision", "cpu-autocast-bfloat16", "--max-examples", "5")
    asked = ("check", "--loss", bad, *narrow)
    until, whole = (Command("", (*asked, "--seed", "{seed}"), said, (1,)) for said in ("FAULT ", ""))
    first, end = timed_commands([until, whole], 1)
    assert first.median > 0.0
    assert end.median > 0.0
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(HarnessError, match="printed no line"):
        list(timed_commands([Command("", asked, "no such line", (1,))], 1))


def test_what_the_project_watches_can_be_parsed() -> None:
    from harness.cli.main import command_line

    for command in commands(OURS):
        options = command_line().parse_args([text.format(seed=0) for text in command.arguments])
        assert options.command == "check"
