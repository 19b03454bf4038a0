"""The quick stage of the properties: what it takes of the catalogue for a mutant, and what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.selfcheck.reading import read_catalogue
from harness.subject_spec import SubjectKind
from tests.mutation import catalogue
from tests.mutation.bench import Bench
from tests.mutation.catalogue import catalogue_findings
from tests.mutation.mutants import Mutant
from tests.mutation.targets import TARGETS, Target

ROOT = Path(__file__).resolve().parents[2]
_LOSSES = """
import os, time

def right(x, y):
    return ((x - y) ** 2).mean()

def negative(x, y):
    return -right(x, y)

def ends(x, y):
    os._exit(0)

def late(x, y):
    time.sleep(60)
"""
_FAULT = """
[[fault]]
name = "{name}"
kind = "loss"
about = "planted"
source = "planted"
loss = "losses.py:{loss}"
truth = "mse"
property = "{expected}"
examples = 5
level = "{level}"
"""
_RIGHT = """
[[right]]
name = "{name}"
about = "planted"
loss = "losses.py:{loss}"
truth = "mse"
"""


def _fault(name: str, loss: str, expected: str, level: str = "fault") -> str:
    return _FAULT.format(name=name, loss=loss, expected=expected, level=level)


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is found where the catalogue has these entries."""

    def of(text: str, rights: tuple[str, ...] = (), strict: tuple[str, ...] = (), **more: Any) -> list[str]:
        (tmp_path / "losses.py").write_text(_LOSSES)
        monkeypatch.setattr(catalogue, "PATH", tmp_path / "catalogue.toml")
        catalogue.PATH.write_text(text)
        stage = {"seed": 0, "examples": 2, "rights": rights, "strict": strict, "seconds": 30.0, **more}
        return list(catalogue_findings(stage, tmp_path))

    return of


def test_a_fault_that_is_noticed_is_no_finding_and_one_that_is_not_is_one(said: Any) -> None:
    unnoticed, graver = said(
        _fault("noticed", "negative", "range")
        + _fault("unnoticed", "negative", "strides")
        + _fault("graver", "negative", "accuracy", "rounding")
    )
    assert unnoticed.startswith("fault unnoticed: strides, float32: held")
    assert graver.startswith("fault graver: accuracy, float32: violated, fault the loss is")


def test_a_false_alarm_is_a_finding_and_strictness_only_where_it_is_asked_for(said: Any) -> None:
    # It takes what is no picture without a word, which is strictness.
    right, mutant = _RIGHT.format(name="right", loss="right"), {"file": "harness/properties/loss_use.py"}
    assert not said(right, ("right",), **mutant)
    (found,) = said(right, ("right",), ("right",), **mutant)
    assert found.startswith("right right: bad-input, float32: violated, strictness ")
    (found,) = said(_RIGHT.format(name="wrong", loss="negative"), ("wrong",), file="harness/properties/loss_value.py")
    assert found.startswith("right wrong: range, float32: violated, fault ")
    with pytest.raises(ValueError, match="has no other"):
        said(right, ("other",))


def test_what_ends_its_process_or_takes_too_long_is_a_finding(said: Any) -> None:
    (found,) = said(_fault("ends", "ends", "range"))
    assert found == "fault ends: range: ends with 0"
    (found,) = said(_fault("late", "late", "range"), seconds=2.0)
    assert found == "fault late: still running after 2 s"


@pytest.mark.parametrize(
    ("module", "function", "names"),
    [
        ("skip_reason", "misfit", {"truthful"}),
        ("loss_use", "modes", {"modes"}),
        ("loss_value", "_gradient_against", {"gradient-accuracy", "identity", "float32-target", "target-gradient"}),
        ("ranks", "_differences", {"ranks-agree"}),
        # Not called by its name: all of its module.
        ("step_report", "<module>", {"truthful"}),
        ("step_bookkeeping", "scale", {"scale", "resume"}),
    ],
)
def test_a_mutant_meets_the_properties_that_call_what_is_changed(module: str, function: str, names: set[str]) -> None:
    entries = read_catalogue(ROOT / "tests/catalogue/catalogue.toml").faults
    runs = catalogue._in_order(list(entries), f"harness/properties/{module}.py", function)
    assert {task.property for _, tasks in runs for task in tasks} == names
    assert {task.kind for _, tasks in runs for task in tasks} <= set(SubjectKind)


@pytest.mark.parametrize("target", [target for target in TARGETS if target.narrowed], ids=lambda target: target.name)
def test_what_judges_has_not_imported_what_is_mutated(target: Target) -> None:
    modules = [file.removesuffix(".py").replace("/", ".") for file in target.files(ROOT)]
    code = f"import importlib, sys\nfor m in {[*target.imported]}:\n    importlib.import_module(m)\n"
    code += f"print(*(m for m in {modules} if m in sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not ended.stdout.strip()


def test_a_mutant_is_judged_by_its_own_part_of_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    (target,) = [target for target in TARGETS if target.name == "properties"]
    monkeypatch.setattr(Bench, "__init__", lambda *_: None)
    bench = Bench(ROOT, target)
    bench._target, bench._reached = target, None
    mutant = Mutant("harness/properties/loss_use.py", 1, "modes", "ByHand", "a", "b", "c")
    first, *others = bench._stages(mutant, "")
    assert (first["file"], first["function"]) == (mutant.file, mutant.function)
    assert {stage["by"] for stage in others} == {"tests"}


def test_each_module_of_the_properties_is_mutated_once() -> None:
    found = [file for target in TARGETS for file in target.files(ROOT) if file.startswith("harness/properties/")]
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "harness/properties").glob("*.py")}
    # Tables, without anything to change.
    tables = {f"harness/properties/{name}.py" for name in ("__init__", "loss", "step")}
    assert sorted(found) == sorted(modules - tables)
