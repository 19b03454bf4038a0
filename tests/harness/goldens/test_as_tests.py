"""Goldens as tests of a user's own pytest run, and from the command line."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.errors import ExitCode
from tests.harness.goldens.suites import make_suite, move, recorded_goldens

pytest_plugins = ["pytester"]
ROOT = Path(__file__).resolve().parents[3]
REASON = "--harness-golden-reason=a test"


def _run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    installed = any(entry.value == "harness.plugin" for entry in importlib.metadata.entry_points(group="pytest11"))
    os.environ["PYTHONPATH"] = str(ROOT)  # pytester restores the environment
    plugin = () if installed else ("-p", "harness.plugin")
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *plugin, *arguments, timeout=150)


@pytest.fixture
def folder(pytester: pytest.Pytester) -> Path:
    """A repository with a recorded suite and a test of its own."""
    pytester.makepyfile("def test_own(): pass")
    recorded_goldens(pytester.path, precisions='["float32", "cpu-autocast-bfloat16"]')
    return pytester.path


def test_goldens_are_tests(pytester: pytest.Pytester, folder: Path) -> None:
    _run(pytester).assert_outcomes(passed=1)
    result = _run(pytester, "--harness-golden", "-v")
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(["*golden-a?float32? PASSED*"])
    _run(pytester, "--harness-golden=a").assert_outcomes(passed=3)


def test_a_golden_that_fails_says_what_moved(pytester: pytest.Pytester, folder: Path) -> None:
    move(folder, 0.5)
    result = _run(pytester, "--harness-golden=a")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*value: 1 → 1.5, up by 0.5*"])


def test_force_regen_records_what_fails_and_fails_once(pytester: pytest.Pytester, folder: Path) -> None:
    move(folder, 0.5)
    result = _run(pytester, "--harness-golden=a", "--force-regen", REASON)
    assert result.parseoutcomes()["failed"] >= 1
    result.stdout.fnmatch_lines(["*recorded anew*"])
    _run(pytester, "--harness-golden=a").assert_outcomes(passed=3)
    _run(pytester, "--harness-golden=b").assert_outcomes(passed=1, failed=2)
    assert "a test" in (folder / "golden" / "recorded" / "a.json").read_text()


def test_regen_all_records_everything_and_fails_nothing(pytester: pytest.Pytester, folder: Path) -> None:
    move(folder, 0.5)
    _run(pytester, "--harness-golden", "--regen-all", REASON).assert_outcomes(passed=3)
    _run(pytester, "--harness-golden").assert_outcomes(passed=5)


def test_recording_needs_a_reason(pytester: pytest.Pytester, folder: Path) -> None:
    result = _run(pytester, "--harness-golden", "--regen-all")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*needs a reason*"])


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(make_suite(tmp_path))
    report = tmp_path / "report.json"

    def golden(action: str, *arguments: str) -> tuple[int, str]:
        code = main(["golden", action, "--golden-dir", folder, *arguments])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    code, text = golden("check")
    assert (code, "2 missing" in text) == (ExitCode.VIOLATED, True)
    with pytest.raises(SystemExit, match="2"):
        golden("update")
    capsys.readouterr()
    code, text = golden("update", "--reason", "the first", "--only", "a")
    assert (code, "1 recorded" in text) == (ExitCode.HELD, True)
    golden("update", "--reason", "the second")
    assert golden("check")[0] == ExitCode.HELD
    code, text = golden("diff")
    assert (code, "nothing moved" in text) == (ExitCode.HELD, True)
    move(tmp_path, 5e-4)
    code, text = golden("drift", "--most", "1", "--json", str(report))
    assert (code, "50.00% ##########" in text) == (ExitCode.HELD, True)
    terms = {t["term"]: t for t in json.loads(report.read_text())["outcomes"][0]["terms"]}
    assert terms["value"]["used"] == pytest.approx(0.5)
    move(tmp_path, 0.5)
    code, text = golden("diff", "--only", "b", "--json", str(report))
    assert (code, "b [float32] gradient: norm" in text, "cosine" in text) == (ExitCode.VIOLATED, True, True)
    terms = {t["term"]: t for t in json.loads(report.read_text())["outcomes"][0]["terms"]}
    assert 0.9 < terms["gradient"]["cosine"] < 1.0
    assert terms["value"]["direction"] == "up"


def test_help_loads_no_torch() -> None:
    for command in ("golden", "compare"):
        code = (
            f"import sys\nfrom harness.cli.main import main\ntry: main(['{command}', '--help'])\n"
            "except SystemExit: pass\n"
            "assert not {'torch', 'numpy', 'hypothesis'} & set(sys.modules), 'too much was imported'"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr


def test_nothing_that_is_read_is_executed() -> None:
    for path in (ROOT / "harness" / "goldens").rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"(?<!safetensors\.)torch\.load|\beval\(|\bexec\(|import pickle", text), path
