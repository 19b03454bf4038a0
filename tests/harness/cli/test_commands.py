"""The commands, as a person runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.subjects.known_bad import KNOWN_BAD

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT.parent / "shared" / "data"
BEFORE_FIX, _, _, STEP_AFTER = (known.spec for known in KNOWN_BAD)


def _harness(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    # One worker: the tests' own workers have taken the processors already.
    environment = {**os.environ, "HARNESS_WORKERS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=cwd,
        env=environment,
    )


def test_help_loads_no_torch() -> None:
    code = (
        "import sys\nfrom harness.cli.main import main\n"
        "try: main(['check', '--help'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'hypothesis'} & set(sys.modules), 'too much was imported'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--max-examples" in done.stdout


def test_the_defaults_are_acquitted_and_reported(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = _harness(
        *("check", "--max-examples", "3", "--precision", "float32", "--precision", "cuda-policy-float16"),
        *("--json", str(report), "--cases-dir", str(tmp_path / "cases")),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "HELD" in done.stdout
    data = json.loads(report.read_text())
    whole = {"schema", "subject", "seed", "environment", "left_out", "status", "verdict", "seconds", "results"}
    whole |= {"strict", "step_does", "gone_from_baseline", "command", "warnings"}
    assert set(data) == whole
    assert data["verdict"] == "held"
    assert {r["kind"] for r in data["results"]} == {"loss", "step"}
    fields = {"property", "kind", "precision", "status", "examples", "seconds", "worst", "message", "case"}
    fields |= {"claim", "case_words", "case_file", "replay", "earlier_calls", "cut_short", "evidence"}
    fields |= {"level", "worst_case", "worst_words", "worst_replay", "worst_evidence", "counts", "badness"}
    fields |= {"known_cases", "broken_regressions", "standing", "accepted", "last_words"}
    assert all(set(r) == fields for r in data["results"])
    assert not list((tmp_path / "cases").glob("*.json"))


def test_a_conviction_names_case_and_replay(tmp_path: Path) -> None:
    cases = tmp_path / "cases"
    done = _harness(
        *("check", "--loss", BEFORE_FIX, "--property", "range", "--precision", "cpu-autocast-bfloat16"),
        *("--cases-dir", str(cases), "--json", str(tmp_path / "report.json")),
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "VIOLATED" in done.stdout
    lines = done.stdout.splitlines()
    smallest = next(index for index, line in enumerate(lines) if "smallest case:" in line)
    command = next(line for line in lines[smallest:] if "replay: harness " in line)
    path = command.split("harness replay ")[1].strip()
    again = _harness("replay", path)
    assert (again.returncode, again.stdout.split(":")[0]) == (1, "FAILED")
    mended = _harness("replay", path, "--loss", "gslrm.model.utils_losses:MaskedSsimLoss")
    assert (mended.returncode, mended.stdout.split(":")[0]) == (0, "FIXED")
    gone = _harness("replay", path, "--loss", "nowhere.py:loss")
    assert (gone.returncode, gone.stderr.split(":")[0]) == (3, "ERROR")
    (result,) = json.loads((tmp_path / "report.json").read_text())["results"]
    assert result["status"] == "violated"
    assert result["case"]["kind"] == "loss"
    assert result["replay"] == f"harness replay {path}"
    assert result["evidence"]["value"] < 0 < result["evidence"]["true value"]


def test_one_subject_named_is_the_only_one_checked(tmp_path: Path) -> None:
    done = _harness("check", "--step", STEP_AFTER, "--property", "never-raises", "--cases-dir", str(tmp_path))
    assert done.returncode == 1
    assert "AssertionError" in done.stdout
    assert "loss " + "gslrm" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["check", "--precision", "float33"], 2, "did you mean 'float32'"),
        (["check", "--property", "rang"], 2, "did you mean 'range'"),
        (["check", "--truth", "perceptal"], 2, "did you mean 'perceptual'"),
        (["check", "--loss", "gslrm.training.loss_terms:l2", "--truth", "pixel-alignment"], 3, "is a loss of points"),
        (["check", "--loss", "a.b:c", "--property", "scale"], 2, "is one of a step, and none is checked"),
        (["check", "--precision", "cuda-float32"], 6, "can't run on this machine: no CUDA GPU"),
        (["check", "--max-examples", "0"], 2, "must be at least 1"),
        (["check", "--images", "nowhere"], 2, "there is no folder"),
        (["check", "--loss", "nonsense"], 2, "write package.module:name"),
        (["check", "--loss", "nowhere.module:loss", "--property", "range"], 3, "'nowhere' is missing"),
        (["check", "--loss", "torch.nn:Linear", "--property", "range"], 3, "in_features"),
        (["replay", "nowhere.json"], 2, "can't be read"),
        (["check", "--step", "a:b", "--precision", "float16-inputs"], 2, "no step is run in float16-inputs"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    arguments: list[str],
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HARNESS_WORKERS", "1")
    if "cuda-float32" in arguments:
        import torch

        if torch.cuda.is_available():
            pytest.skip("this machine has a CUDA GPU, so the precision is not refused")
    if arguments[0] == "check":
        arguments = [*arguments, "--cases-dir", str(tmp_path), "--max-time", "30"]
    answer = main(arguments)
    printed = capfd.readouterr()
    assert answer == code, printed.out + printed.err
    assert words in printed.err
    assert "Traceback" not in printed.err
    assert len(printed.err.strip().splitlines()) == 1


def test_a_term_is_held_to_its_truth_and_the_report_says_so(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = _harness(
        *("check", "--loss", "gslrm.training.loss_terms:l2", "--truth", "mse", "--max-examples", "3"),
        *("--property", "accuracy", "--property", "full-mask", "--precision", "float32"),
        *("--json", str(report), "--cases-dir", str(tmp_path / "cases")),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "held to mse" in done.stdout
    data = json.loads(report.read_text())
    assert data["subject"]["truth"] == "mse"
    assert {r["property"]: r["status"] for r in data["results"]} == {"accuracy": "held", "full-mask": "not applicable"}


def test_nothing_to_check_is_said(tmp_path: Path) -> None:
    done = _harness("check", cwd=tmp_path)
    assert done.returncode == 2
    assert "nothing to check" in done.stderr


def test_a_report_that_can_not_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = _harness(
        *("check", "--step", STEP_AFTER, "--property", "scale", "--precision", "float32", "--max-examples", "1"),
        *("--json", str(tmp_path / "file" / "report.json"), "--cases-dir", str(tmp_path / "cases")),
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_known_bad_subjects_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["subjects"]) == 0
    printed = capsys.readouterr().out
    assert all(known.spec in printed for known in KNOWN_BAD)


@pytest.mark.parametrize("folder", ["mouse_views", "facelift_head/images"])
def test_real_pictures(folder: str, tmp_path: Path) -> None:
    if not (DATA / folder).is_dir():
        pytest.skip(f"the real pictures of {folder} are not beside this checkout (../shared/data)")
    images = ["--images", str(DATA / folder), "--cases-dir", str(tmp_path), "--property", "range"]
    narrow = ["--precision", "cpu-autocast-bfloat16", "--precision", "cuda-policy-bfloat16"]
    ours = _harness("check", "--loss", "gslrm.model.utils_losses:MaskedSsimLoss", *images, *narrow)
    assert ours.returncode == 0, ours.stdout + ours.stderr
    theirs = _harness("check", "--loss", BEFORE_FIX, *images, *narrow)
    assert theirs.returncode == 1, theirs.stdout + theirs.stderr
    told = re.search(r"the loss is (-?[\d.]+)", theirs.stdout)
    assert told, theirs.stdout
    # Which of the two precisions is worse, and on which side of the range, depends on the pictures.
    assert not 0 <= float(told[1]) <= 2
