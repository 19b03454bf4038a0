"""Every command of the README and the tutorial is run, and prints what is shown of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Where rounding leads on another processor is not what the pages are about.
_ELSEWHERE = ("smallest case:", "worst case:", "replay:", "shrunk:")
_PRECISION = re.compile(r"\b(?:cpu-autocast|cuda-policy)-b?float16\b")
_NUMBER = re.compile(r"\b[0-9a-f]{10}\b|\d+(?:\.\d+)?(?:e[+-]?\d+)?")

LOSS = "def SsimLoss(x, y):\n    return (x - y).square().mean()\n"
TRAINER = """
import torch

class GSLRMTrainer:
    def optimizer_step(self, result):
        if self.fwdbwd_pass_step % self.config.training.runtime.grad_accum_steps:
            return
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.param_update_step += 1
        self.lr_scheduler.step()
        self.optimizer.zero_grad()
"""


def _blocks(page: Path, language: str) -> Iterator[tuple[str, str]]:
    """Title (or empty) and text of each fenced block in the language."""
    found = re.findall(rf'^```{language}(?: title="([^"]+)")?\n(.*?)^```', page.read_text(), re.MULTILINE | re.DOTALL)
    yield from found


def _consoles(page: Path) -> list[tuple[str, str]]:
    """Each command and what it is shown to print."""
    shown = []
    for _, text in _blocks(page, "console"):
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            shown.append((command, output))
    return shown


def _run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """In a shell, with ``harness`` as this environment has it."""
    here = re.sub(r"^harness ", f"{sys.executable} -m harness ", command)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        here, shell=True, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=200
    )


def _plain(text: str) -> str:
    """On one line, without the table's frame, numbers as ``#`` with their sign, half precisions alike."""
    text = _PRECISION.sub("half precision", text)
    return _NUMBER.sub("#", " ".join(re.sub(r"[┏┓┗┛━┳┻┃│┡┩╇└┘─┴]", " ", text).split()))


def _assert_shown(shown: str, done: subprocess.CompletedProcess[str], command: str) -> None:
    printed = _plain(done.stdout + done.stderr)
    for line in shown.splitlines():
        if line.strip() in ("", "[...]") or line.strip().startswith(_ELSEWHERE):
            continue
        expected = _plain(line.partition(";")[0] if line.startswith("DIFFER") else line)
        assert expected in printed, f"{command}\ndoesn't print\n{line}\nbut\n{done.stdout}{done.stderr}"


@pytest.mark.slow
def test_the_tutorial_happens_as_told(tmp_path: Path) -> None:
    page = ROOT / "docs" / "tutorial.md"
    for title, text in _blocks(page, "python"):
        (tmp_path / title).write_text(text)
    consoles = _consoles(page)
    assert len(consoles) >= 6
    for command, shown in consoles:
        _assert_shown(shown, _run(command, tmp_path), command)


@pytest.mark.slow
@pytest.mark.parametrize(("command", "shown"), _consoles(ROOT / "README.md"), ids=lambda text: text[:60])
def test_what_the_readme_shows_is_printed(command: str, shown: str, tmp_path: Path) -> None:
    _assert_shown(shown, _run(command, tmp_path), command)


def _examples() -> list[str]:
    lines = [line for _, text in _blocks(ROOT / "README.md", "sh") for line in text.splitlines()]
    return [line.partition(" #")[0].strip() for line in lines if line.startswith("harness ")]


@pytest.mark.slow
@pytest.mark.parametrize("command", _examples())
def test_the_readmes_examples_run(command: str, tmp_path: Path) -> None:
    """On files of the names that they have in the README, with few examples."""
    (tmp_path / "path" / "to").mkdir(parents=True)
    (tmp_path / "path" / "to" / "losses.py").write_text(LOSS)
    checkout = tmp_path / "FaceLift"
    (checkout / "gslrm" / "model").mkdir(parents=True)
    (checkout / "gslrm" / "model" / "utils_losses.py").write_text(LOSS)
    (checkout / "train_gslrm.py").write_text(TRAINER)
    (tmp_path / "train.py").write_text((ROOT / "tests/harness/rehearsal/right_recipe.py").read_text())
    name = "never-raises" if "--step" in command else "range"
    is_script = " -- " in command
    few = "" if is_script else f" --max-examples 2 --precision float32 --property {name}"
    few += " --rounds 1" if "fuzz" in command else ""
    done = _run(command + few, tmp_path)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    if "watch" in command:
        # The exit code is the script's own, and it does nothing that is to be told.
        assert (done.returncode, "harness watch:" in done.stderr) == (0, False), done.stderr
    else:
        assert "HELD" in done.stdout or "VIOLATED" in done.stdout


def test_nox_has_the_sessions_that_are_named() -> None:
    sessions = (ROOT / "noxfile.py").read_text()
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        for name in re.findall(r'nox -s "?(\w+)', page.read_text()):
            assert f"\ndef {name}(session: nox.Session" in sessions, f"{page.name} names the session {name}"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "ARCHITECTURE.md"])
def test_links_lead_somewhere(name: str) -> None:
    """The site's builder checks those between its own pages only."""
    links = re.findall(r"\]\(([^)#]+)", (ROOT / name).read_text())
    assert not [link for link in links if "://" not in link and not (ROOT / link).exists()]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
