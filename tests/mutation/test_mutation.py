"""The driver: mutants are judged in a copy, a planted survivor is told, and a run goes on where it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.mutation import __main__ as driver
from tests.mutation.bench import Bench, BrokenBenchError
from tests.mutation.mutants import Mutant
from tests.mutation.records import append, read_records
from tests.mutation.table import rendered
from tests.mutation.targets import TARGETS
from tests.mutation.tiny_project import FILE, MODULE, TARGET, tiny_project

ROOT = Path(__file__).resolve().parents[2]


def _mutant(function: str, removed: str, added: str) -> Mutant:
    line = 1 + next(i for i, text in enumerate(MODULE.splitlines()) if removed in text)
    return Mutant(FILE, line, function, "ByHand", removed, added, MODULE.replace(removed, added))


KILLED = _mutant("larger", "return a if a > b else b", "return a if a < b else b")
SURVIVOR = _mutant("untested", "return a + 1", "return a - 1")
ENDLESS = _mutant("counted_down", "n = n - 1", "n = n + 1")


@pytest.fixture(autouse=True)
def _no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny project's tests need none, and some take seconds to import."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(driver, "mutants_of", lambda *_: [KILLED, SURVIVOR])
    monkeypatch.setattr(driver, "places_of", lambda _: [("ByHand", 0), ("ByHand", 1)])
    return tiny_project(tmp_path / "project")


def _run(project: Path, *options: str) -> int:
    return driver.main(["--out", str(project / "out.jsonl"), *options], project, [TARGET])


def _outcomes(project: Path) -> dict[str, str]:
    return {one["function"]: one["outcome"] for one in read_records(project / "out.jsonl").values()}


def test_a_killed_mutant_a_survivor_and_the_working_tree(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(project, "--markdown", str(project / "page.md")) == 1
    assert _outcomes(project) == {"larger": "killed", "untested": "survived"}
    (killed, _) = read_records(project / "out.jsonl").values()
    assert killed["by"] == "tests/test_sums.py::test_larger"
    assert (project / FILE).read_text() == MODULE
    assert "1 of 2 killed, 50.0 %" in capsys.readouterr().out
    assert (
        f"- `{FILE}:{SURVIVOR.line}`, `untested`: `return a + 1` → `return a - 1`." in (project / "page.md").read_text()
    )


def test_a_known_equivalent_is_not_counted(project: Path) -> None:
    (project / "tests/mutation/equivalent.toml").write_text(
        f'[[mutant]]\nfile = "{FILE}"\nfunction = "untested"\nremoved = "return a + 1"\nadded = "return a - 1"\n'
        'reason = "Planted."\n'
    )
    assert _run(project) == 0
    assert _outcomes(project)["untested"] == "survived"


def test_a_run_goes_on_where_it_was(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = project / "out.jsonl"
    assert _run(project, "--slice", "2/2") == 1
    assert _outcomes(project) == {"untested": "survived"}
    with out.open("a") as file:
        file.write('{"file": "gsl')
    judged: list[Mutant] = []
    monkeypatch.setattr(Bench, "judge", _listening(judged))
    _run(project)
    assert judged == [KILLED]
    assert _outcomes(project) == {"larger": "killed", "untested": "survived"}
    _run(project, "--again")
    assert judged == [KILLED, SURVIVOR]


def _listening(judged: list[Mutant]) -> Any:
    judge = Bench.judge

    def listening(bench: Bench, mutant: Mutant) -> Any:
        judged.append(mutant)
        return judge(bench, mutant)

    return listening


def test_tests_that_are_left_out_find_nothing_and_a_target_s_name_is_no_part_of_a_path(project: Path) -> None:
    (project / "gslrm/sums_of_others.py").write_text("")
    other = replace(TARGET, name="others", patterns=("gslrm/sums_of_others.py",))
    options = ["--out", str(project / "out.jsonl"), "--without", "test_sums", "--only", "sums"]
    assert driver.main(options, project, [TARGET, other]) == 1
    assert _outcomes(project) == {"larger": "survived", "untested": "survived"}
    assert {one["file"] for one in read_records(project / "out.jsonl").values()} == {FILE}


def test_out_of_time_nothing_is_begun(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(project, "--budget", "0s") == 0
    assert not _outcomes(project)
    assert "out of time" in capsys.readouterr().out


def test_a_mutant_without_an_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.mutation.bench._BESIDES", 1.0)
    with Bench(tiny_project(tmp_path), TARGET) as bench:
        verdict = bench.judge(ENDLESS)
        assert verdict.outcome == "timeout"
        # What comes after it is judged as ever.
        assert bench.judge(KILLED).outcome == "killed"


def test_a_target_that_is_red_by_itself_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "tests/test_sums.py").write_text("def test_red():\n    assert False\n")
    assert _run(project) == 2
    assert "sums is red without a mutant, by tests/test_sums.py::test_red" in capsys.readouterr().err
    with pytest.raises(BrokenBenchError, match="red without a mutant"):
        Bench(project, replace(TARGET, name="again"))


def test_bad_input_is_refused_in_one_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(project, "--only", "nothing") == 2
    assert capsys.readouterr().err.count("\n") == 1
    for wrong in (["--slice", "3/2"], ["--budget", "soon"]):
        with pytest.raises(SystemExit):
            _run(project, *wrong)


def test_the_last_record_of_a_mutant_counts(tmp_path: Path) -> None:
    one = {"file": "a", "line": 1, "function": "f", "operator": "o", "removed": "x", "added": "y", "by": ""}
    for outcome in ("survived", "killed"):
        append(tmp_path / "out.jsonl", {**one, "outcome": outcome})
    (found,) = read_records(tmp_path / "out.jsonl").values()
    assert found["outcome"] == "killed"
    assert "| `a` | 9 | 1 | 1 | 0 | 0 | 0 | 100.0 % |" in rendered([found], {"a": 9}, {})


def test_every_target_has_modules_and_stages() -> None:
    for target in TARGETS:
        assert target.files(ROOT), target.name
        json.dumps(target.stages)
        for stage in target.stages:
            for path in stage.get("arguments", ()):
                assert (ROOT / path).exists(), path
