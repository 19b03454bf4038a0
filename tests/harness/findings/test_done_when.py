"""Of each known-bad subject: found, replayed, sent to somebody without the harness, mended, kept, checked again."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.subjects.known_bad import KNOWN_BAD

RIGHT = {"loss": "gslrm.model.utils_losses", "step": "gslrm.training.amp_step"}
CLASS = {"loss": "MaskedSsimLoss", "step": "AmpStep"}
# Of each, one property and precision that convict it, and the examples that takes.
ASKED = {
    "LossBeforeFix": ("range", "cuda-policy-bfloat16", 3),
    "LossWithClamp": ("accuracy", "cpu-autocast-bfloat16", 3),
    "StepBeforeFix": ("never-raises", "cpu-autocast-float16", 120),
    "StepAfterReport": ("never-raises", "cuda-policy-float16", 10),
}
# The harness and its subject are refused, as where they are not installed.
BARE = """
import runpy, sys
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("harness", "gslrm", "tests"):
            raise ModuleNotFoundError(f"{name} is not installed here")
sys.meta_path.insert(0, Refusing())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_bare(script: Path, folder: Path) -> str:
    """What the script prints where there is no harness, told where the subject's folder is."""
    command = [sys.executable, "-I", "-W", "ignore", "-c", BARE, str(script), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=script.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def clean_imports() -> Iterator[None]:
    """``export`` loads the subject in this process."""
    finders, places, modules = list(sys.meta_path), list(sys.path), set(sys.modules)
    yield
    sys.meta_path[:], sys.path[:] = finders, places
    for name in set(sys.modules) - modules:
        if name.startswith("subject_"):
            del sys.modules[name]


@pytest.mark.slow
@pytest.mark.usefixtures("clean_imports")
@pytest.mark.parametrize("known", KNOWN_BAD, ids=lambda known: known.spec.rpartition(":")[2])
def test_a_failure_is_found_sent_mended_and_kept(
    known: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    location, _, name = known.spec.rpartition(":")  # type: ignore[attr-defined]
    kind = known.kind  # type: ignore[attr-defined]
    property_, precision, examples = ASKED[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_WORKERS", "1")
    subject = tmp_path / f"subject_{name.lower()}.py"
    wrong = Path(str(importlib.import_module(location).__file__)).read_text()
    subject.write_text(wrong)
    check = ["check", f"--{kind}", f"{subject.name}:{name}", "--property", property_, "--precision", precision]
    check += ["--max-examples", str(examples)]

    def harness(*arguments: str) -> tuple[int, str]:
        code = main(arguments)
        return code, capsys.readouterr().out

    code, said = harness(*check)
    assert code == 1, said
    case = said.rpartition("replay: harness replay ")[2].split()[0]
    code, said = harness("replay", case)
    assert (code, said.partition(":")[0]) == (1, "FAILED")

    code, said = harness("export", case, "--out", "sent/case.py")
    assert code == 0, said
    script = tmp_path / "sent" / "case.py"
    assert "import harness" not in script.read_text()
    assert "from harness" not in script.read_text()
    printed = run_bare(script, tmp_path)
    assert [line for line in printed.splitlines() if line in said], printed

    subject.write_text(f"from {RIGHT[kind]} import {CLASS[kind]} as {name}\n")
    code, said = harness("replay", case)
    assert (code, said.partition(":")[0]) == (0, "FIXED")
    code, said = harness("keep", case)
    assert (code, said.partition(":")[0]) == (0, "KEPT")
    code, said = harness(*check)
    assert code == 0, said
    assert "known from before tried first" in said

    if name != "StepAfterReport":
        return
    # It comes back: what is kept convicts it, whatever else is found.
    for path in (tmp_path / ".harness" / "cases").glob("*.json"):
        path.unlink()
    subject.write_text(wrong)
    code, said = harness(*check[:-1], "1")
    assert code == 1, said
    (kept,) = (tmp_path / ".harness" / "regressions").glob("*.json")
    assert "regression (fault): " in said
    assert f"replay: harness replay .harness/regressions/{kept.name}" in said
