from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.main import main
from harness.cuda_session.plan import PRECISIONS, Step, chosen, steps
from harness.errors import UsageError
from harness.precision.registry import PRECISIONS as ALL_PRECISIONS
from harness.subjects.known_bad import KNOWN_BAD

OUT = Path("/somewhere/out")


def _plan() -> dict[str, Step]:
    return {step.name: step for step in steps(OUT, Path("/checkout/golden"))}


def test_every_precision_of_a_gpu_is_checked() -> None:
    assert set(PRECISIONS) == {p.name for p in ALL_PRECISIONS if p.device == "cuda"}
    for name in ("check", "known-bad-LossBeforeFix"):
        command = _plan()[name].command
        assert tuple(command[i + 1] for i, word in enumerate(command) if word == "--precision") == PRECISIONS


def test_every_known_bad_subject_is_to_be_convicted() -> None:
    bad = {name: step for name, step in _plan().items() if name.startswith("known-bad-")}
    assert len(bad) == len(KNOWN_BAD)
    assert {step.expected for step in bad.values()} == {1}
    assert {word for step in bad.values() for word in step.command} >= {known.spec for known in KNOWN_BAD}


def test_only_the_modules_with_tests_of_a_gpu_are_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).resolve().parents[3]
    monkeypatch.chdir(root)
    named = {word for word in _plan()["tests"].command if word.startswith("tests/")}
    assert "tests/gslrm/rendering/test_on_cuda.py" in named
    assert "tests/harness/precision/cuda_policy/proofs/test_gpu_comparison.py" in named
    assert len(named) < 10


def test_nothing_is_written_elsewhere() -> None:
    for step in _plan().values():
        options = ("--json", "--into", "--cases-dir")
        written = [step.command[i + 1] for i, word in enumerate(step.command) if word in options]
        written += [word.split("=")[1] for word in step.command if word.startswith("--junitxml=")]
        assert written
        assert all(path.startswith(f"{OUT}/") for path in written), step.name


def test_a_check_ends_by_itself_before_it_is_ended() -> None:
    for step in _plan().values():
        if "--max-time" in step.command:
            assert float(step.command[step.command.index("--max-time") + 1]) < step.seconds


def test_steps_are_chosen_by_name_or_together() -> None:
    plan = tuple(_plan().values())
    assert [step.name for step in chosen(plan, ["check", "doctor"])] == ["doctor", "check"]
    assert len(chosen(plan, ["known-bad"])) == len(KNOWN_BAD)
    assert chosen(plan, []) == plan
    with pytest.raises(UsageError, match="did you mean 'goldens'"):
        chosen(plan, ["golden"])


def test_a_dry_run_shows_the_plan_and_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cuda", "--out", str(tmp_path / "out"), "--dry-run", "--only", "emulation"]) == 0
    name, command = capsys.readouterr().out.splitlines()
    assert name.startswith("emulation: ")
    assert "gpu_comparison" in command
    assert not (tmp_path / "out").exists()
