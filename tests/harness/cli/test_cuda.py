"""``harness cuda`` where there is no GPU, and with steps and a machine that are made up."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from harness.cli import cuda
from harness.cli.main import main
from harness.cuda_session import plan
from harness.cuda_session.plan import Step
from tests.harness.cuda_session.test_running import MACHINE


def test_without_a_gpu_it_says_so_and_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA GPU, so the session would run")
    assert main(["cuda", "--out", str(tmp_path / "out")]) == 6
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("harness: there is no GPU to run on: none")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def _made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU, and three quick steps."""
    code = "import sys, os; print(os.environ.get('PYTHONPATH', '')); sys.exit({})"
    made_up = tuple(
        Step(name, "for a test", (sys.executable, "-c", code.format(status)), 60.0, expected)
        for name, status, expected in (("held", 0, 0), ("convicted", 1, 1), ("fails", 4, 0))
    )
    monkeypatch.setattr(cuda, "_doctor", lambda: MACHINE)
    monkeypatch.setattr(plan, "steps", lambda out, golden: made_up)


@pytest.mark.usefixtures("_made_up")
def test_all_is_under_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a" / "out"
    assert main(["cuda", "--out", str(out)]) == 1
    screen = capsys.readouterr().out.splitlines()
    assert screen[0] == "A GPU, driver no driver, torch 2.11.0+cu130, CPython 3.12.1"
    assert [line.split()[0] for line in screen[1:4]] == ["held", "convicted", "fails"]
    assert screen[4].startswith("VIOLATED: 2 of 3 steps as expected")
    data = json.loads((out / "summary.json").read_text())
    assert [step["exit_status"] for step in data["steps"]] == [0, 1, 4]
    assert {path.name for path in (out / "logs").iterdir()} == {"held.log", "convicted.log", "fails.log"}
    assert main(["cuda", "--out", str(out), "--only", "convicted"]) == 0


@pytest.mark.usefixtures("_made_up")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "hold"], "did you mean 'held'"),
        (["--max-time", "0"], "above 0"),
        (["--max-time", "nan"], "above 0"),
        (["--wheels", "nowhere"], "no wheel in that folder"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cuda", "--out", str(tmp_path / "out"), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("_made_up")
def test_wheels_of_what_is_missing_are_there_for_the_steps_alone(tmp_path: Path) -> None:
    wheels, out = tmp_path / "wheels", tmp_path / "out"
    wheels.mkdir()
    _wheel(wheels, "made_up_for_a_test", "made_up")
    _wheel(wheels, "numpy", "numpy")  # which is installed
    assert main(["cuda", "--out", str(out), "--wheels", str(wheels), "--only", "held"]) == 0
    assert (out / "packages" / "made_up.py").is_file()
    assert not (out / "packages" / "numpy.py").exists()
    assert (out / "logs" / "held.log").read_text().splitlines()[1].startswith(str(out / "packages"))


def test_a_doctor_that_says_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: object) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert main(["cuda", "--out", str(tmp_path / "out")]) == 6


def _wheel(folder: Path, name: str, module: str) -> None:
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{module}.py", "")
        info = f"{name}-1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"{module}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
