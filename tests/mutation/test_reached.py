"""A mutant meets the tests that reach it, and all where what is changed is run by an import."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutation.bench import Bench, _is_in_body
from tests.mutation.mutants import Mutant
from tests.mutation.reached import Reached, instrumented
from tests.mutation.tiny_project import FILE, MODULE, TARGET, tiny_project

_TARGET = replace(TARGET, narrowed=True)
_TEST = """
import subprocess, sys
import pytest
from gslrm.sums import counted_down, larger, untested

@pytest.fixture(scope="module")
def made():
    return untested(1)

def test_larger():
    assert larger(1, 2) == 2

def test_made(made):
    assert made == 2

def test_elsewhere():
    subprocess.run([sys.executable, "-c", "from gslrm.sums import counted_down; counted_down(2)"], check=True)
"""


@pytest.fixture(autouse=True)
def _no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def _mutant(function: str, removed: str, added: str) -> Mutant:
    line = 1 + next(i for i, text in enumerate(MODULE.splitlines()) if removed in text)
    return Mutant(FILE, line, function, "ByHand", removed, added, MODULE.replace(removed, added))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tiny_project(tmp_path / "project")
    (root / "tests/test_sums.py").write_text(_TEST)
    (root / "tests/test_others.py").write_text("def test_nothing():\n    pass\n")
    return root


def test_a_test_reaches_what_it_calls_itself_by_a_fixture_or_in_another_process(project: Path, tmp_path: Path) -> None:
    kept = tmp_path / "reached.json"
    with Bench(project, _TARGET, kept) as bench:
        # What says so is gone again.
        assert (bench.copy / FILE).read_text() == MODULE
    found = Reached.read(kept)
    assert found is not None
    sums = [f"tests/test_sums.py::test_{name}" for name in ("elsewhere", "larger", "made")]
    assert set(found.tests) == {*sums, "tests/test_others.py::test_nothing"}
    assert found.functions == {
        f"{FILE}::counted_down": sums[:1], f"{FILE}::larger": sums[1:2], f"{FILE}::untested": sums,
    }  # fmt: skip
    assert not found.anywhere
    assert found.narrowed(FILE, "larger", True, found.test_files) == {
        "arguments": ["tests/test_sums.py"],
        "left_out": [name for name in found.tests if name != sums[1]],
        "seconds": {sums[1]: found.tests[sums[1]]},
    }
    everything = found.narrowed(FILE, "larger", False, found.test_files)
    assert everything["left_out"] == []
    changed = {**found.test_files, "tests/test_others.py": "other", "tests/test_new.py": "new"}
    files = found.narrowed(FILE, "nothing", True, changed)["arguments"]
    assert files == ["tests/test_new.py", "tests/test_others.py"]


def test_mutants_are_judged_by_what_reaches_them(project: Path, tmp_path: Path) -> None:
    kept = tmp_path / "reached.json"
    turned = _mutant("larger", "return a if a > b else b", "return a if a < b else b")
    unread = _mutant("counted_down", "n = n - 1", "n = n - 2")
    with Bench(project, _TARGET, kept) as bench:
        assert bench.judge(turned).by == "tests/test_sums.py::test_larger"
        assert bench.judge(unread).outcome == "survived"
    # A test that is new is met though what is kept doesn't know it.
    (project / "tests/test_down.py").write_text(
        "from gslrm.sums import counted_down\ndef test_odd():\n    assert counted_down(3) == 0\n"
    )
    with Bench(project, _TARGET, kept, anyway=True) as bench:
        assert bench.judge(unread).by == "tests/test_down.py::test_odd"


def test_a_function_says_that_it_is_called_after_its_docstring() -> None:
    source = '"""M."""\nfrom __future__ import annotations\nclass A:\n  def f(self):\n    """F."""\n    return 1\n'
    made = instrumented(source, "a.py")
    assert made.index('"""M."""') < made.index("__future__") < made.index("import called")
    assert made.index('"""F."""') < made.index("_called('a.py::A.f')") < made.index("return 1")
    subprocess.run([sys.executable, "-c", f"{made}\nassert A().f() == 1 and A.f.__doc__ == 'F.'"], check=True)


def test_what_an_import_runs_is_in_no_body() -> None:
    source = (
        "import a\n@d(1)\ndef f(\n    x=2,\n):\n    return 3\nclass A:\n    y = 4\n    def g(self):\n        return 5\n"
    )
    assert [line for line in range(1, 11) if _is_in_body(source, line)] == [6, 10]
