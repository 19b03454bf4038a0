"""``harness selfcheck``: a survivor or a false alarm fails it, and the seeds alone decide what is found."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.errors import ExitCode
from harness.oracle.levels import Level
from harness.reports.selfcheck import markdown
from harness.selfcheck.catalogue import Fault, Right, Subject
from harness.selfcheck.verdicts import Alarm, Attempt, FaultResult, RightResult, Selfcheck
from harness.subject_spec import SubjectKind, SubjectSpec

_TRIED = Path(__file__).with_name("tried.py")
_RECIPE = Path(__file__).parents[1] / "rehearsal" / "right_recipe.py"
_GUARD = "    if not gradients:\\n        continue\\n"


def _fault(name: str, loss: str, property_: str, more: str = "") -> str:
    return (
        f'[[fault]]\nname = "{name}"\nkind = "loss"\nabout = "a test"\nsource = "planted"\ntruth = "mse"\n'
        f'loss = "tried.py:{loss}"\nproperty = "{property_}"\nexamples = 10\n{more}\n'
    )


def _script(name: str, edits: str, rule: str) -> str:
    return (
        f'[[fault]]\nname = "{name}"\nkind = "script"\nabout = "a test"\nsource = "planted"\n'
        'script = "right_recipe.py"\n'
        f'arguments = ["--out", "{{folder}}"]\nfaults = ["no-gradient"]\nrule = "{rule}"\nedits = [{edits}]\n'
    )


_CATALOGUE = "\n".join(
    [
        _fault("loss-killed", "negative", "range"),
        _fault("loss-at-random", "negative_at_random", "range"),
        _fault("loss-survivor", "right", "range"),
        _fault("elsewhere", "negative", "strides"),
        _fault("lesser-level", "negative", "range", 'level = "strictness"'),
        _fault("ends-its-process", "ends", "finite"),
        _script("script-killed", f'{{ old = "{_GUARD}", new = "" }}', "never-raises"),
        _script("script-survivor", "", "never-raises"),
        '[[right]]\nname = "right"\nabout = "a test"\nloss = "tried.py:right"\ntruth = "mse"\nexamples = 2\n',
        '[[right]]\nname = "alarming"\nabout = "a test"\nloss = "tried.py:negative"\ntruth = "mse"\nexamples = 2\n',
    ]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("catalogue")
    (folder / "tried.py").write_text(_TRIED.read_text())
    (folder / "right_recipe.py").write_text(_RECIPE.read_text())
    (folder / "catalogue.toml").write_text(_CATALOGUE)
    return folder


@pytest.fixture(scope="module")
def alone(folder: Path) -> tuple[int, dict[str, Any]]:
    """All of it, in one process."""
    report = folder / "report-1.json"
    code = main(["selfcheck", str(folder / "catalogue.toml"), "--seeds", "2", "-n", "1", "--json", str(report)])
    return code, json.loads(report.read_text())


@pytest.mark.slow
def test_a_survivor_and_a_false_alarm_fail_it(alone: tuple[int, dict[str, Any]]) -> None:
    """It starts two processes that import torch: some 30 s."""
    code, report = alone
    assert code == ExitCode.VIOLATED
    assert report["verdict"] == "violated"
    faults = {one["name"]: one for one in report["faults"]}
    assert {name: (one["killed"], one["survived"]) for name, one in faults.items()} == {
        "loss-killed": (2, 0),
        "loss-at-random": (2, 0),
        "loss-survivor": (0, 2),
        "elsewhere": (0, 2),
        "lesser-level": (2, 0),
        "ends-its-process": (2, 0),
        "script-killed": (1, 0),
        "script-survivor": (0, 1),
    }
    assert faults["loss-killed"]["attempts"][0]["examples"] == 1
    assert faults["loss-killed"]["attempts"][0]["level"] == "fault"
    assert faults["loss-killed"]["attempts"][0]["case"]["unit"] == "pixels"
    assert faults["loss-survivor"]["attempts"][0]["message"] == "range held"
    assert faults["loss-survivor"]["attempts"][0]["elsewhere"] is None
    assert faults["elsewhere"]["attempts"][0]["elsewhere"] == "range"
    assert faults["lesser-level"]["attempts"][0]["level"] == "fault"
    assert faults["ends-its-process"]["attempts"][0]["message"] == "ends the interpreter (exit code 7)"
    right, alarming = report["right"]
    assert {one["level"] for one in right["violations"]} == {"strictness"}
    assert right["judged"] > 20
    assert {"range", "identity"} <= {one["property"] for one in alarming["violations"] if one["level"] == "fault"}


@pytest.mark.slow
def test_the_seeds_alone_decide_what_is_found(folder: Path, alone: tuple[int, dict[str, Any]]) -> None:
    """Of the losses' faults. Some 10 s."""
    report = folder / "report-3.json"
    main(
        [
            "selfcheck",
            str(folder / "catalogue.toml"),
            "--only",
            "loss-",
            "--seeds",
            "2",
            "-n",
            "3",
            "--json",
            str(report),
        ]
    )
    there = {one["name"]: one for one in alone[1]["faults"]}
    again = {one["name"]: one for one in json.loads(report.read_text())["faults"]}
    assert set(again) == {"loss-killed", "loss-at-random", "loss-survivor"}
    assert {name: _without_times(one) for name, one in again.items()} == {
        name: _without_times(there[name]) for name in again
    }


def _without_times(report: Any) -> Any:
    if isinstance(report, Mapping):
        return {key: _without_times(value) for key, value in report.items() if "seconds" not in key}
    return [_without_times(one) for one in report] if isinstance(report, list) else report


@pytest.mark.slow
def test_it_ends_with_0_where_all_is_as_the_catalogue_says(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the settings' catalogue. Some 8 s."""
    (folder / "pyproject.toml").write_text('[tool.harness]\nselfcheck = "catalogue.toml"\n')
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    page = folder / "page.md"
    options = ["--only", "loss-killed", "--seeds", "1", "-n", "1", "--shrink", "--markdown", str(page)]
    assert main(["selfcheck", *options]) == ExitCode.HELD
    assert "HELD: 1 of 1 faults killed at seed 0" in capsys.readouterr().out
    assert "harness selfcheck --seeds 1 --only loss-killed" in page.read_text()


@pytest.mark.slow
def test_what_hangs_survives(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Some 12 s."""
    path = folder / "hanging.toml"
    path.write_text(_fault("hangs", "hangs", "finite"))
    assert main(["selfcheck", str(path), "--seeds", "1", "-n", "1", "--timeout", "3"]) == ExitCode.VIOLATED
    assert "SURVIVED hangs at seed 0: still running after 3 s" in capsys.readouterr().out


def test_what_the_budget_leaves_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["selfcheck", str(folder / "catalogue.toml"), "--budget", "0.000001s"])
    assert code == ExitCode.INCOMPLETE
    assert "not run: loss-survivor" in capsys.readouterr().out


def test_an_interrupted_run_keeps_what_it_has_found(folder: Path, tmp_path: Path) -> None:
    (folder / "long.toml").write_text(_fault("killed", "negative", "range") + _fault("hangs", "hangs", "finite"))
    written = tmp_path / "figures.json", tmp_path / "tables.md"
    command = [sys.executable, "-m", "harness", "selfcheck", str(folder / "long.toml"), "--seeds", "1", "-n", "1"]
    options = ["--json", str(written[0]), "--markdown", str(written[1])]
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if "1 of 2 done" in line:
                break
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=60)
    assert run.returncode == 130
    faults = json.loads(written[0].read_text())["faults"]
    assert [len(fault["attempts"]) for fault in faults] == [1, 0]
    assert "not run: hangs" in written[1].read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no catalogue: name one"),
        (["nothing.toml"], "there is no catalogue"),
        (["catalogue.toml", "--only", "nobody"], "no name with 'nobody' in it"),
        (["catalogue.toml", "--seeds", "0"], "--seeds is 0, but must be from 1 to 1000"),
        (["catalogue.toml", "--budget", "soon"], "must be a time such as 60s or 5m"),
        (["catalogue.toml", "--timeout", "nan"], "--timeout is nan"),
    ],
)
def test_wrong_use(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "catalogue.toml").write_text(_CATALOGUE)
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    assert main(["selfcheck", *arguments]) == ExitCode.USAGE
    told = capsys.readouterr().err
    assert said in told
    assert len(told.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("entry", "code", "said"),
    [
        (_fault("lost", "nobody", "range"), ExitCode.SUBJECT, "lost: "),
        (_script("unfit", '{ old = "nowhere", new = "" }', "never-raises"), ExitCode.USAGE, "unfit: "),
    ],
)
def test_an_entry_that_can_not_be_tried_is_named(
    entry: str, code: ExitCode, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some 6 s for the first, whose search has to begin."""
    path = folder / "unfit.toml"
    path.write_text(entry)
    assert main(["selfcheck", str(path), "-n", "1"]) == code
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told


_LOSS = Subject(SubjectKind.LOSS, SubjectSpec("losses.py:loss"), 10)
_OF = Fault("a-fault", "loss", "wrong | somehow", "planted", _LOSS, "range", "float32", Level.FAULT)


def _found(attempts: list[Attempt], violations: list[Alarm]) -> Selfcheck:
    right = RightResult(Right("a-right-one", "right", _LOSS, ("float32",)), 3, 3, 60, violations, 1.0)
    return Selfcheck([FaultResult(_OF, attempts, 3)], [right], 0, 3, 9.0, "harness selfcheck", "2030-01-31")


def _attempt(seed: int, seconds: float, killed: bool = True) -> Attempt:
    return Attempt(seed, killed, Level.FAULT if killed else None, 4 * seed, seconds)


def test_medians_are_of_what_killed_it() -> None:
    found = _found([_attempt(0, 1.0), _attempt(1, 9.0), _attempt(2, 2.0)], [])
    assert found.exit_code is ExitCode.HELD
    assert (found.faults[0].seconds, found.faults[0].examples) == (2.0, 4)
    assert found.seconds_to_kill == 2.0
    survived = _found([_attempt(0, 1.0), _attempt(1, 99.0, killed=False), _attempt(2, 2.0)], [])
    assert survived.exit_code is ExitCode.VIOLATED
    assert survived.faults[0].seconds == 1.5
    assert _found([_attempt(0, 1.0)], []).exit_code is ExitCode.INCOMPLETE


@pytest.mark.parametrize("level", Level)
def test_a_false_alarm_is_a_fault(level: Level) -> None:
    attempts = [_attempt(seed, 1.0) for seed in range(3)]
    found = _found(attempts, [Alarm("range", "float32", 1, level, "out of range")])
    assert found.exit_code is (ExitCode.VIOLATED if level is Level.FAULT else ExitCode.HELD)


def test_the_page_escapes_what_it_is_told() -> None:
    page = markdown(_found([_attempt(0, 1.0, killed=False)], []))
    assert (
        r"| a-fault | loss: wrong \| somehow | planted | range (float32) |".replace("(", r"\(").replace(")", r"\)")
        in page
    )
    assert "SURVIVED a-fault at seed 0" in page
    assert "`harness selfcheck`, on 2030-01-31" in page
