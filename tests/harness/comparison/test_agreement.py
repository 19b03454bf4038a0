"""``harness compare``: agreement where there is, the difference where there is none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.cases.descriptors import LossCase, Perturbation, PerturbationKind
from harness.cli.main import main
from harness.comparison import side
from harness.comparison.agreement import Comparer, both_sides
from harness.comparison.result import Comparison
from harness.comparison.revisions import revision_root
from harness.errors import ExitCode, SubjectError, UsageError
from harness.oracle.definitions import definition_named
from harness.precision import precisions_named
from harness.subject_spec import DEFAULT_TRUTH, SubjectSpec

ROOT = Path(__file__).resolve().parents[3]
BEFORE_FIX = "harness.subjects.known_bad.losses:LossBeforeFix"
OURS = "gslrm.model.utils_losses:MaskedSsimLoss"


def _compare(
    a: str, b: str, examples: int, precision: str = "float32", truth: str = DEFAULT_TRUTH, similarity: bool = False
) -> Comparison:
    names = (SubjectSpec(spec, None, similarity, truth) for spec in (a, b))
    with both_sides(*names, precision) as sides:
        return Comparer(*sides, precision, 1e-3, definition_named(truth)).compare(examples, 0)


@pytest.fixture(scope="module")
def before_fix() -> Comparison:
    return _compare(BEFORE_FIX, OURS, 100)


def test_the_loss_before_the_fix_agrees_where_float32_is_good(before_fix: Comparison) -> None:
    large = {summary.term: summary for summary in before_fix.summaries(1e-2)}
    assert large["value"].cases >= 20
    for term in ("value", "gradient"):
        assert large[term].beyond == 0
        assert large[term].largest < 1e-3
        assert large[term].typical < 1e-4


def test_and_differs_where_it_is_not(before_fix: Comparison) -> None:
    for term in ("value", "gradient"):
        small = {summary.term: summary for summary in before_fix.summaries(1e-9, 1e-4)}[term]
        assert small.beyond >= 3
        assert small.largest > 0.1


def test_the_first_case_that_differs_is_shrunk(before_fix: Comparison) -> None:
    first, smallest = before_fix.first, before_fix.smallest
    assert first is not None
    assert smallest is not None
    assert not first.agrees
    assert not smallest.agrees
    assert isinstance(first.case, LossCase)
    assert isinstance(smallest.case, LossCase)
    assert (smallest.case.height, smallest.case.width) == (11, 11)
    assert next(one for one in before_fix.cases if not one.agrees) == first


def test_the_time_of_both_is_told(before_fix: Comparison) -> None:
    assert before_fix.speed is not None
    assert before_fix.speed > 0


def test_a_loss_agrees_with_itself() -> None:
    comparison = _compare(OURS, OURS, 15)
    assert comparison.first is None
    assert all(summary.largest < 1e-6 for summary in comparison.summaries())


def test_steps_are_compared_by_their_trajectories() -> None:
    same = _compare(*["gslrm.training.amp_step:AmpStep"] * 2, 10, "cpu-autocast-float16")
    assert same.first is None
    known = "harness.subjects.known_bad.steps:"
    other = _compare(f"{known}StepBeforeFix", f"{known}StepAfterReport", 40, "cpu-autocast-float16")
    assert other.smallest is not None
    assert [d.term.partition("[")[0] for d in other.smallest.terms if not d.within]
    assert len(other.smallest.case.actions) <= 2  # type: ignore[union-attr]


def test_where_only_one_raises_they_differ(tmp_path: Path) -> None:
    subject = tmp_path / "picky.py"
    subject.write_text(
        "from harness.subjects.known_bad.losses import LossBeforeFix\n"
        "class Picky(LossBeforeFix):\n"
        "    def forward(self, rendering, target, mask):\n"
        "        if mask.sum() < 20: raise ValueError('too little')\n"
        "        return super().forward(rendering, target, mask)\n"
    )
    comparison = _compare(BEFORE_FIX, f"{subject}:Picky", 30)
    assert comparison.first is not None
    assert comparison.first.raised == "A raises nothing, B raises ValueError: too little"


class _Here:
    """A side without a process of its own, which takes seconds to start."""

    def __init__(self, name: SubjectSpec, precision: str) -> None:
        (self._precision,) = precisions_named([precision])
        self.subject = name
        self.kind, self._subject = side._loaded(name)

    def measure(self, case: LossCase) -> Any:
        return self.seconds(case, 0)

    def seconds(self, case: LossCase, repeats: int) -> Any:
        return side._run(side._PROBES[self.kind](self._subject, case), self._precision, repeats)

    def close(self) -> None:
        pass


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.comparison.agreement.Side", _Here)


_SUBJECTS = """
import sys
def right(x, y): return (x - y).square().mean()
def on_small(x, y):
    if x.shape[-1] > 100: raise MemoryError('too large')
    return right(x, y)
def leaves(x, y): sys.exit(0)
def alike(x, y): return 1 - (x - y).square().mean()
def alike_otherwise(x, y): return 1 - (x * x - 2 * x * y + y * y).mean()
class Unspeakable(Exception):
    def __str__(self): raise RuntimeError('no words')
def unspeakable(x, y): raise Unspeakable
"""


@pytest.fixture
def subjects(tmp_path: Path) -> str:
    path = tmp_path / "subjects.py"
    path.write_text(_SUBJECTS)
    return str(path)


@pytest.mark.usefixtures("here")
def test_a_side_that_raises_on_the_timed_case_alone_is_a_difference(
    subjects: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compare", f"{subjects}:right", f"{subjects}:on_small", "--truth", "mse", "--max-examples", "4"]
    assert main(arguments) == ExitCode.VIOLATED
    printed = capsys.readouterr().out
    assert "one side raises in 1 case, first: A raises nothing, B raises MemoryError: too large" in printed
    assert "time: not told, as a side raises" in printed
    assert "DIFFER: in 1 case; the first is 2 images of 128×128" in printed


@pytest.mark.usefixtures("here")
def test_where_both_raise_always_nothing_is_compared(
    subjects: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    spec = f"{subjects}:leaves"
    assert main(["compare", spec, spec, "--max-examples", "3", "--json", str(report)]) == ExitCode.INCOMPLETE
    assert "both raise in 3 cases, first: SystemExit: 0" in capsys.readouterr().out
    written = json.loads(report.read_text())
    assert (written["agree"], written["compared"], written["speed_ratio"]) == (False, 0, None)


@pytest.mark.usefixtures("here")
def test_an_exception_without_words_is_told_as_such(subjects: str) -> None:
    comparison = _compare(f"{subjects}:right", f"{subjects}:unspeakable", 1, truth="mse")
    assert comparison.first is not None
    assert "whose message can't be had" in comparison.first.raised


@pytest.mark.usefixtures("here")
def test_similarities_are_compared_as_what_one_minus_them_is(subjects: str) -> None:
    names = (f"{subjects}:alike", f"{subjects}:alike_otherwise")
    comparison = _compare(*names, 80, truth="mse", similarity=True)
    # Nearly equal images tell the two apart, which one minus a small number hides.
    assert comparison.summaries(1e-2)[0].largest < 1e-3
    sides_of = (SubjectSpec(name, None, True, "mse") for name in names)
    unrelated = LossCase(16, 16, perturbation=Perturbation(PerturbationKind.UNRELATED))
    with both_sides(*sides_of, "float32") as sides:
        compared = Comparer(*sides, "float32", 1e-3, definition_named("mse")).compared(unrelated)
    assert 0.0 < compared.size < 0.6


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("name", "truth"),
    [("PointsDistanceTerm", "points-distance"), ("BackgroundTerm", "background"), ("MaskedL2Term", "masked-mse")],
)
def test_a_loss_of_another_kind_agrees_with_itself(name: str, truth: str) -> None:
    spec = f"gslrm.testing.single_terms:{name}"
    comparison = _compare(spec, spec, 5, truth=truth)
    assert comparison.first is None
    assert comparison.compared == 5
    assert comparison.speed is not None


@pytest.mark.usefixtures("here")
def test_ms_ssim_is_compared_and_timed_on_images_of_its_size() -> None:
    spec = "gslrm.model.tried_losses:MaskedMsSsimLoss"
    comparison = _compare(spec, spec, 1, truth="ms-ssim")
    assert comparison.compared == 1
    assert comparison.speed is not None


@pytest.mark.usefixtures("here")
def test_a_loss_that_can_not_be_what_it_is_compared_as_is_named(subjects: str) -> None:
    with pytest.raises(SubjectError, match="masked-ssim is a loss of images"):
        _compare(*["gslrm.testing.single_terms:PointsDistanceTerm"] * 2, 1)


def test_a_loss_and_a_step_are_not_compared() -> None:
    with pytest.raises(UsageError, match="only like can be compared"):
        _compare(OURS, "gslrm.training.amp_step:AmpStep", 1)


def test_a_subject_that_dies_is_one_sentence(tmp_path: Path) -> None:
    subject = tmp_path / "dying.py"
    subject.write_text("import os\ndef loss(rendering, target, mask): os._exit(7)\n")
    with pytest.raises(SubjectError, match=r"died \(exit code 7\)"):
        _compare(f"{subject}:loss", OURS, 1)


def test_a_subject_that_can_not_be_loaded_is_one_sentence() -> None:
    with pytest.raises(SubjectError, match="'nowhere' is missing"):
        _compare("nowhere:loss", OURS, 1)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two revisions of a loss: the second has another σ."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    folder = tmp_path / "repository"
    shutil.copytree(ROOT / "gslrm", folder / "gslrm", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pyproject.toml").write_text(f'[tool.harness]\nloss = "{OURS}"\n')
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    window = folder / "gslrm" / "model" / "gaussian_window.py"
    window.write_text(window.read_text().replace("WINDOW_SIGMA = 1.5", "WINDOW_SIGMA = 1.4"))
    git("commit", "-qam", "two")
    return folder


def test_two_revisions_are_compared_from_the_command_line(repository: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"

    def compare(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "harness",
            "compare",
            *arguments,
            "--argument",
            "path=torch",
            "--max-examples",
            "8",
        ]
        path = {"PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, capture_output=True, text=True, timeout=200, cwd=repository, env={**os.environ, **path}
        )

    same = compare("--rev", "HEAD~1", "HEAD~1")
    assert same.returncode == ExitCode.HELD, same.stdout + same.stderr
    assert "AGREE" in same.stdout
    other = compare("--rev-a", "HEAD~1", "--json", str(report))
    assert other.returncode == ExitCode.VIOLATED, other.stdout + other.stderr
    assert "DIFFER" in other.stdout
    written = json.loads(report.read_text())
    assert written["agree"] is False
    assert written["a"] == f"{OURS} at HEAD~1"
    assert written["smallest"]["case"]["kind"] == "loss"


def test_a_revision_is_gone_afterwards_and_an_unknown_one_is_one_sentence(repository: Path) -> None:
    with revision_root("HEAD~1", repository / "gslrm") as folder:
        assert "WINDOW_SIGMA = 1.5" in (folder / "model" / "gaussian_window.py").read_text()
    assert not folder.exists()
    with pytest.raises(UsageError, match="git rev-parse"), revision_root("no-such", repository):
        pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rev", "a", "b", "--rev-a", "c"), "--rev names both"),
        (("--rev-a", "a", "--root-a", "."), "can't have both"),
        (("--budget", "-1"), "must be a number from 0 up"),
        (("--precision", "flot32"), "did you mean"),
        (("--truth", "mses"), "did you mean 'mse'"),
    ],
)
def test_a_wrong_option_is_one_sentence(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *arguments]) == ExitCode.USAGE
    assert message in capsys.readouterr().err
