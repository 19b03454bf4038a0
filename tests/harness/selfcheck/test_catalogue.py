"""A catalogue is read or refused in a sentence, and the project's own is whole."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from harness.cases.descriptors import LossCase
from harness.engine.plan import Task
from harness.errors import UsageError
from harness.oracle.levels import Level
from harness.rehearsal.faults import Fault as ScriptFault
from harness.selfcheck import reading
from harness.selfcheck.catalogue import PLANTED as NOT_MET
from harness.selfcheck.catalogue import Catalogue, Fault, Script, Subject
from harness.selfcheck.child import _words
from harness.selfcheck.forks import Record
from harness.selfcheck.outcomes import Judged, NotRun, search_attempt, search_judged
from harness.selfcheck.reading import read_catalogue
from harness.selfcheck.verdicts import Alarm, Attempt
from harness.subject_spec import SubjectKind, SubjectSpec
from harness.subjects.known_bad import KNOWN_BAD
from tests.harness.properties import (
    broken_trainings,
    input_mutants,
    instance_mutants,
    mutants,
    test_definitions,
    world_mutants,
)
from tests.harness.rehearsal.test_planted import PLANTED
from tests.harness.trials.test_seven_steps import _VIOLATED as SEVEN

ROOT = Path(__file__).resolve().parents[3]
_FAULT = """[[fault]]
name = "a"
kind = "loss"
about = "wrong"
source = "planted"
loss = "losses.py:loss"
property = "range"
"""
_SCRIPT = """[[fault]]
name = "b"
kind = "script"
about = "wrong"
source = "planted"
script = "train.py"
rule = "never-raises"
"""


def _read(text: str, folder: Path) -> Catalogue:
    path = folder / "catalogue.toml"
    path.write_text(text)
    return read_catalogue(path)


def test_what_an_entry_leaves_out_is_as_documented(tmp_path: Path) -> None:
    found = _read(f'[defaults]\ntruth = "mse"\nroot = "up"\n{_FAULT}{_SCRIPT}', tmp_path)
    fault, script = found.faults
    assert isinstance(fault.subject, Subject)
    assert fault.subject.spec.spec == f"{tmp_path / 'losses.py'}:loss"
    assert (fault.subject.spec.truth, fault.subject.spec.root) == ("mse", str(tmp_path / "up"))
    assert (fault.precision, fault.level, fault.subject.examples) == ("float32", Level.FAULT, 100)
    assert isinstance(script.subject, Script)
    assert script.subject == Script(tmp_path / "train.py", faults=tuple(ScriptFault))
    assert found.only("b") == Catalogue((script,), ())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no entries"),
        ("fault = 3", "fault must be a list of tables"),
        ("falut = []", "has the unknown key 'falut'; known are defaults, fault, right"),
        ("[defaults]\nprecision = 'float32'", "defaults has the unknown key 'precision'"),
        ("defaults = 3", "defaults must be a table"),
        (_FAULT.replace('"a"', "3"), "fault 3: name must be text"),
        (_FAULT.replace('name = "a"\n', ""), "fault 'number 1': name must be text"),
        (_FAULT + _FAULT, "names 'a' twice"),
        (_FAULT.replace('"wrong"', '"  "'), "about must be text"),
        (_FAULT.replace('"wrong"', f'"{"w" * 301}"'), "about must be one line of at most 300 characters"),
        (_FAULT.replace('"planted"', '"a\\nb"'), "source must be one line"),
        (_FAULT.replace('source = "planted"\n', ""), "source must be text"),
        (_FAULT.replace('kind = "loss"', 'kind = "lass"'), "there is no kind 'lass'; did you mean 'loss'?"),
        (_FAULT.replace("range", "rnage"), "there is no property 'rnage'; did you mean 'range'?"),
        (_FAULT + 'precision = "float16"\n', "there is no precision 'float16'"),
        (_FAULT + "precision = 1\n", "a precision must be text, not 1"),
        (_FAULT + "precision = []\n", "a precision must be text, not []"),
        (_FAULT + 'precision = ""\n', "there is no precision ''"),
        (_FAULT + 'level = "grave"\n', "there is no level 'grave'"),
        (_FAULT + "level = [1]\n", "there is no level '[1]'"),
        (_FAULT + "examples = 0\n", "examples must be a whole number from 1 to"),
        (_FAULT + "examples = true\n", "examples must be a whole number from 1 to"),
        (_FAULT + "similarity = 1\n", "similarity must be true or false"),
        (_FAULT + 'step = "s.py:s"\n', "must name one subject: loss, step or script"),
        (_FAULT.replace('loss = "losses.py:loss"\n', ""), "must name one subject"),
        (_FAULT + 'promises = ["norm-limit=5"]\n', "has the unknown key 'promises'"),
        (_FAULT + 'rule = "never-raises"\n', "has the unknown key 'rule'"),
        (_FAULT + "examples = 1e999\n", "not finite"),
        (_FAULT + "about = [", "is not valid TOML"),
        (_SCRIPT.replace("never-raises", "never"), "there is no rule 'never'"),
        (_SCRIPT + 'faults = ["nan"]\n', "there is no fault 'nan'"),
        (_SCRIPT + 'faults = "nan-output"\n', "faults must be a list of texts"),
        (_SCRIPT + 'edits = "x"\n', "edits must be a list of tables"),
        (_SCRIPT + 'edits = [{ old = "" , new = "x" }]\n', "an edit must be a table of two texts"),
        (_SCRIPT + 'edits = [{ old = "x" }]\n', "an edit must be a table of two texts"),
        (_SCRIPT + "pretend-cuda = 1\n", "pretend-cuda must be true or false"),
        (_SCRIPT + "ranks = 5\n", "ranks must be a whole number from 1 to 4"),
        (_SCRIPT + "ranks = true\n", "ranks must be a whole number from 1 to 4"),
        (_SCRIPT + "resume-with = 1\n", "resume-with must be text"),
        (_SCRIPT + 'ranks = 2\nresume-with = ""\n', "resume-with is for one rank alone"),
        (
            '[[right]]\nname = "a"\nabout = "r"\nloss = "l.py:l"\nprecisions = []\n',
            "precisions must be a list of names",
        ),
        ('[[right]]\nname = "a"\nabout = "r"\nloss = "l.py:l"\nsource = "x"\n', "has the unknown key 'source'"),
    ],
)
def test_a_bad_catalogue_is_refused_in_a_sentence(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        _read(text, tmp_path)
    assert said in str(refused.value)
    assert str(tmp_path / "catalogue.toml") in str(refused.value)
    assert "\n" not in str(refused.value)


def test_there_is_no_catalogue(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no catalogue"):
        read_catalogue(tmp_path / "nothing.toml")


@pytest.fixture(scope="module")
def own() -> Catalogue:
    return read_catalogue(ROOT / "tests" / "catalogue" / "catalogue.toml")


def test_it_has_so_many(own: Catalogue) -> None:
    assert len(own.faults) >= 80
    assert len(own.rights) >= 24
    assert {fault.kind for fault in own.faults} == {"loss", "mask", "step", "training", "script"}
    met = [fault for fault in own.faults if fault.source != NOT_MET]
    assert len({fault.source for fault in met}) >= 10


def _specs(own: Catalogue) -> set[str]:
    """Of all faults, those in files by the file's own name."""
    subjects = [fault.subject for fault in own.faults]
    return {re.sub(r"^.*/", "", subject.spec.spec) for subject in subjects if isinstance(subject, Subject)}


def test_every_mutant_of_the_tests_is_in_it(own: Catalogue) -> None:
    modules = (mutants, instance_mutants, input_mutants, broken_trainings)
    made = {
        f"{m.__name__.rpartition('.')[2]}.py:{name}" for m in modules for name in vars(m) if name.startswith("break_")
    }
    made |= {f"term_mutants.py:{mutant}" for _, mutant, *_ in test_definitions._CONVICTIONS}
    made |= {
        f"world_mutants.py:{name}"
        for name, one in vars(world_mutants).items()
        if isinstance(one, type) and one.__module__ == world_mutants.__name__
    }
    made |= {known.spec for known in KNOWN_BAD}
    assert len(made) > 120
    assert made - _specs(own) == set()


def test_what_is_no_mutant_is_in_it_as_right(own: Catalogue) -> None:
    right = {re.sub(r"^.*:", "", one.subject.spec.spec) for one in own.rights if isinstance(one.subject, Subject)}
    marked = {
        name for m in (mutants, instance_mutants, world_mutants) for name, one in vars(m).items() if _unharmed(one)
    }
    assert marked
    assert marked <= right


def _unharmed(one: object) -> bool:
    return (getattr(one, "__doc__", None) or "").startswith("No mutant") and hasattr(one, "__name__")


def test_every_planted_edit_of_a_script_is_in_it(own: Catalogue) -> None:
    edited = {
        (edit, fault.expected)
        for fault in own.faults
        if isinstance(fault.subject, Script)
        for edit in fault.subject.edits
    }
    assert {((p.old, p.new.replace("@\n", "\n").removesuffix("@")), p.rule) for p in PLANTED} <= edited


def test_what_is_expected_of_the_seven_steps_is_what_their_test_says(own: Catalogue) -> None:
    for fault in own.faults:
        if isinstance(fault.subject, Subject) and "seven_steps.py" in fault.subject.spec.spec:
            half, whole = SEVEN[fault.subject.spec.spec.rpartition(":")[2]]
            assert fault.expected in (whole if fault.precision == "float32" else half), fault.name


def test_each_subject_is_there(own: Catalogue) -> None:
    for entry in (*own.faults, *own.rights):
        if isinstance(entry.subject, Script):
            assert entry.subject.text()
            continue
        location, _, name = entry.subject.spec.spec.rpartition(":")
        if location.startswith("torchmetrics"):
            continue
        found = importlib.util.find_spec(location) if not location.endswith(".py") else None
        path = Path(location if found is None else found.origin or "")
        assert name in _names(path), f"{entry.name}: {path} has no {name}"


def _names(path: Path) -> set[str]:
    """What a module has at its top level."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def test_the_page_has_the_catalogues_faults_and_right_ones(own: Catalogue) -> None:
    """In its order; made by the command that it shows."""
    page = (ROOT / "docs" / "reference" / "selfcheck-run.md").read_text()
    faults, right = page.partition("## What is known to be wrong")[2].partition("## What is right")[::2]
    assert _first_cells(faults) == [fault.name for fault in own.faults]
    assert _first_cells(right) == [one.name for one in own.rights]
    for fault in own.faults:
        (row,) = [line for line in faults.splitlines() if line.startswith(f"| {fault.name} |")]
        assert fault.expected in row.replace("\\", "")


def _first_cells(table: str) -> list[str]:
    rows = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines() if line.startswith("| ")]
    return rows[1:]


def test_the_guide_has_every_key() -> None:
    text = (ROOT / "docs" / "reference" / "selfcheck.md").read_text()
    keys = {key for keys in reading._OF.values() for key in keys} | {"name", "kind", "about", "source", "property"}
    keys |= {"precision", "precisions", "level", "rule"}
    assert [key for key in sorted(keys) if f"`{key}`" not in text] == []


def test_the_cases_of_losses_have_a_size() -> None:
    """As the searching process tells it."""
    words = _words(Task(SubjectKind.LOSS, "range", "float32"), LossCase(12, 14, batch=2))
    assert words is not None
    assert (words["size"], words["unit"]) == (2 * 12 * 14, "pixels")


_FAULT_OF_LOSS = Fault(
    "a", "loss", "b", "c", Subject(SubjectKind.LOSS, SubjectSpec("l.py:l"), 1), "range", "float32", Level.DEFINITION
)


def _row(level: Level | None, status: str = "violated") -> dict[str, Any]:
    told = {"property": "range", "precision": "float32", "status": status, "level": level and level.value}
    return {**told, "message": "m", "examples": 1, "seconds": 0.1, "case": None}


def test_a_level_below_the_expected_is_no_kill() -> None:
    found = {level: search_attempt(_FAULT_OF_LOSS, 0, Record([_row(level)])) for level in Level}
    killing = [level for level, one in found.items() if isinstance(one, Attempt) and one.killed]
    assert killing == [Level.FAULT, Level.DEFINITION]


def test_what_can_not_be_run_here_is_no_survivor() -> None:
    assert search_attempt(_FAULT_OF_LOSS, 0, Record([_row(None, "not run")])) == NotRun("m")


def test_what_is_right_may_take_long_but_not_end_its_process() -> None:
    unfinished = ("range", "float32")
    ended = search_judged(0, Record([_row(None, "held")], unfinished, ended="ends"))
    assert ended == Judged(1, (Alarm(*unfinished, 0, Level.FAULT, "ends"),), 0.1)
    late = search_judged(0, Record([_row(None, "held")], unfinished, ended="late", overdue=True))
    assert late == Judged(1, (), 0.1, "late")
