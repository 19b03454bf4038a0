"""``harness doctor`` as a person runs it, also where torch can't be imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.main import main

ROOT = Path(__file__).resolve().parents[3]


def _doctor(cwd: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", "doctor", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=200,
        cwd=cwd,
        env={**os.environ, **variables},
    )


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise OSError('libcudart.so.13: cannot open shared object file')", "OSError: libcudart.so.13"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("raise ImportError('no\\x1b[31m\\nsuch thing')", "ImportError: no"),
    ],
)
def test_a_torch_that_can_not_be_imported_is_told(tmp_path: Path, code: str, words: str) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(code)
    done = _doctor(tmp_path, PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]))
    assert done.returncode == 4, done.stdout + done.stderr
    assert done.stderr == ""
    line = next(line for line in done.stdout.splitlines() if line.startswith("torch"))
    assert words in line
    assert "\x1b" not in done.stdout
    assert "nothing can be checked: torch" in done.stdout


def test_where_nothing_is_installed_it_still_speaks(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r});"
         "from harness.cli.main import main; sys.exit(main(['doctor', '--json']))"],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=tmp_path,
    )  # fmt: skip
    if sys.version_info < (3, 11) and "tomli" in done.stderr:
        pytest.skip("settings need tomli on this Python, and nothing is installed")
    assert done.returncode == 4, done.stdout + done.stderr
    data = json.loads(done.stdout)
    assert {package["broken"] for package in data["environment"]["needed"]} == {"not installed"}


def test_json_goes_to_a_file_or_takes_the_screen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", str(tmp_path / "a" / "doctor.json")]) == 0
    screen = capsys.readouterr().out
    assert screen.startswith("harness ")
    assert main(["doctor", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((tmp_path / "a" / "doctor.json").read_text())
    assert printed == written
    assert printed["verdict"] in " ".join(line.strip() for line in screen.splitlines())


def test_a_file_that_can_not_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["doctor", "--json", str(tmp_path / "file" / "doctor.json")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1


def test_help_loads_no_torch() -> None:
    code = (
        "import sys\nfrom harness.cli.main import main\n"
        "for name in ('doctor', 'cuda'):\n"
        "    try: main([name, '--help'])\n    except SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'hypothesis', 'rich'} & set(sys.modules), 'too much was imported'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "--json" in done.stdout


def test_a_locale_that_has_no_such_letters_is_no_matter(tmp_path: Path) -> None:
    try:
        os.fsencode("ä")
    except UnicodeEncodeError:
        pytest.skip("this locale's file names can't hold the letter either")
    folder = tmp_path / "Bärenpfad"
    folder.mkdir()
    done = _doctor(folder, PYTHONIOENCODING="ascii", PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "renpfad" in done.stdout
