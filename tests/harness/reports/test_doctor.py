"""What the doctor says, on this machine and on one where next to nothing works."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
from pathlib import Path

import pytest
import torch

from harness.errors import ExitCode
from harness.precision import PRECISIONS
from harness.reports import doctor, environment
from harness.reports.doctor import Unemulated, diagnose, diagnosis_lines
from harness.reports.environment import Answer, Package, ask


@pytest.fixture
def _coverage(monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulation that leaves one op out."""
    module = types.ModuleType("harness.precision.cuda_policy.coverage")
    module.unemulated_ops = lambda: (("_cudnn_rnn", "the header lists it not"),)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.usefixtures("_coverage")
def test_all_that_a_bug_report_needs_is_on_one_screen(tmp_path: Path) -> None:
    found = diagnose(tmp_path)
    lines = diagnosis_lines(found)
    text = " ".join(line.strip() for line in lines)
    assert found.exit_code is ExitCode.HELD
    assert len(lines) <= 40
    assert max(len(line) for line in lines) <= 110 or str(tmp_path) in max(lines, key=len)
    for part in (
        torch.__version__,
        "hypothesis",
        "pytorch-msssim",
        "no pyproject.toml here or above",
        "can be written",
    ):
        assert part in text
    assert torch.backends.cpu.get_cpu_capability() in text
    assert all(precision.name in text for precision in PRECISIONS)
    assert found.unemulated.value == (Unemulated("_cudnn_rnn", "the header lists it not"),)
    assert "_cudnn_rnn (the header lists it not)" in text
    assert not list(tmp_path.iterdir()), "looking must leave nothing behind"


@pytest.mark.usefixtures("_coverage")
def test_the_same_is_in_the_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_MAX_TIME", "inf")
    data = json.loads(json.dumps(diagnose(tmp_path).as_json(), allow_nan=False))
    assert data["schema"] == "harness-doctor/1"
    assert data["exit_code"] == 0
    assert data["environment"]["needed"][0]["version"] == str(torch.__version__)
    assert data["environment"]["variables"]["HARNESS_MAX_TIME"] == "inf"
    assert {p["name"] for p in data["precisions"]["value"]} == {p.name for p in PRECISIONS}
    assert data["unemulated"]["value"] == [{"op": "_cudnn_rnn", "reason": "the header lists it not"}]


def test_a_machine_without_a_gpu_is_told_why(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA GPU")
    found = diagnose(tmp_path)
    assert found.environment.gpu.names.value is None
    assert found.environment.gpu.names.why_not.startswith("none")
    assert found.precisions.value is not None
    assert {p.name for p in found.precisions.value if p.why_not} >= {p.name for p in PRECISIONS if p.device == "cuda"}


def test_a_probe_that_fails_costs_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise SystemExit("probe\x1b[31m failed\nsecond line")

    for name in ("_system", "_processor_name", "_processor_features", "_usable_cores", "_driver", "_build", "_tf32"):
        monkeypatch.setattr(environment, name, fails)
    for name in ("_precisions", "_unemulated", "_why_unwritable"):
        monkeypatch.setattr(doctor, name, fails)
    monkeypatch.setattr(torch, "get_num_threads", fails)
    monkeypatch.setattr(torch.cuda, "is_available", fails)
    found = diagnose(tmp_path)
    text = "\n".join(diagnosis_lines(found))
    assert found.exit_code is ExitCode.HARNESS
    assert text.count("SystemExit: probe") >= 6
    assert "\x1b" not in text
    assert f"torch       {torch.__version__}" in text
    json.dumps(found.as_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [("[tool.harness]\nsede = 1\n", "unknown key 'sede'"), ("[tool.harness\n", "not valid TOML")],
)
def test_settings_that_can_not_be_read_are_in_the_way(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    found = diagnose(tmp_path)
    assert found.exit_code is ExitCode.USAGE
    assert words in " ".join(line.strip() for line in diagnosis_lines(found))


def test_a_folder_for_cases_that_can_not_be_written_is_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    # What the environment says is taken from the working directory.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CASES_DIR", "file/cases")
    found = diagnose(tmp_path)
    assert found.exit_code is ExitCode.USAGE
    assert found.cases_why_not == f"{tmp_path / 'file'} is no folder"
    monkeypatch.setenv("HARNESS_CASES_DIR", "new/cases")
    assert diagnose(tmp_path).exit_code is ExitCode.HELD


def test_no_precision_is_no_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.precision.unavailable_reason", lambda _: "the stars are wrong")
    found = diagnose(tmp_path)
    assert found.exit_code is ExitCode.PRECISION
    assert "emulation   none: the stars are wrong" in diagnosis_lines(found)


def test_only_what_checks_need_stops_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = environment.full_environment()

    def without(name: str) -> environment.Environment:
        packages = tuple(
            dataclasses.replace(package, broken="can't be imported") if package.name == name else package
            for package in whole.needed
        )
        return dataclasses.replace(whole, needed=packages)

    monkeypatch.setattr(doctor, "full_environment", lambda: without("matplotlib"))
    found = diagnose(tmp_path)
    assert found.exit_code is ExitCode.HELD
    assert "matplotlib can't be imported, which goldens, plots" in found.verdict
    monkeypatch.setattr(doctor, "full_environment", lambda: without("hypothesis"))
    assert diagnose(tmp_path).exit_code is ExitCode.HARNESS


def test_an_answer_says_what_was_raised() -> None:
    assert ask(lambda: 1) == Answer(1)
    failed = ask(lambda: 1 // 0, "can't be told")
    assert failed.value is None
    assert str(failed) == "can't be told (ZeroDivisionError: integer division or modulo by zero)"
    assert Package("a", None).version is None
