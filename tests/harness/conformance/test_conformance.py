"""``harness conformance``: what isn't expected fails it, what is gone is told, and what isn't there is no failure."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.conformance import running
from harness.conformance.reading import read_subjects
from harness.conformance.table import only
from harness.errors import ExitCode
from harness.selfcheck.forks import Record

_PEER = """
import os

def right(x, y):
    return (x.float() - y.float()).square().mean()

def negative(x, y):
    return right(x, y) - 1.0

def ends(x, y):
    if x.requires_grad:
        os._exit(7)
    return right(x, y)

def hostile(x, y):
    if x.requires_grad:
        raise ValueError("<b>|`*bold*")
    return right(x, y)

remembered = []

def once_seen(x, y):
    remembered.append(1)
    return right(x, y) - float(len(remembered) > 40)
"""


def _subject(name: str, loss: str, more: str = 'packages = ["fakepeer"]') -> str:
    return f'[[subject]]\nname = "{name}"\nabout = "a test"\nloss = "{loss}"\ntruth = "mse"\n{more}\n'


_SUBJECTS = "\n".join(
    [
        _subject("right", "fakepeer:right"),
        _subject("negative", "fakepeer:negative"),
        _subject("by-path", "near.py:negative"),
        _subject("ends", "fakepeer:ends"),
        _subject("hostile", "fakepeer:hostile"),
        _subject("absent", "absentpeer:ssim", 'packages = ["absentpeer"]'),
        _subject("needy", "fakepeer:right", 'packages = ["fakepeer"]\nneeds = ["absent_module.part"]'),
        _subject("broken", "brokenpeer:ssim"),
        _subject("on-cuda", "fakepeer:right", 'packages = ["fakepeer"]\ncuda = true'),
        '[[subject]]\nname = "a-step"\nabout = "a test"\nstep = "near.py:Step"\npackages = ["fakepeer"]\n',
    ]
)
_FAULTS = (("negative", "range"), ("by-path", "range"), ("ends", "finite"), ("hostile", "finite"))


def _expecting(subject: str, property_: str, level: str = "fault") -> str:
    return (
        f'[[expected]]\nsubject = "{subject}"\nproperty = "{property_}"\nprecisions = ["float32"]\n'
        f'level = "{level}"\nbecause = "planted"\n'
    )


_REASON = '[[reason]]\nname = "planted"\nreason = "it was made so"\nlink = "https://example.org/issues/1"\n'
_EXPECTED = "\n".join([_REASON, *(_expecting(*fault) for fault in _FAULTS)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The subjects, run once, with what they have expected."""
    folder = tmp_path_factory.mktemp("conformance")
    (folder / "fakepeer.py").write_text(_PEER)
    (folder / "brokenpeer.py").write_text("import torchvision_that_is_nowhere\n")
    (folder / "near.py").write_text("from fakepeer import negative\n\nclass Step:\n    def step(self, loss): ...\n")
    metadata = folder / "fakepeer-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: fakepeer\nVersion: 1.2\n")
    (folder / "subjects.toml").write_text(_SUBJECTS)
    (folder / "expected.toml").write_text(_EXPECTED)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", str(folder))
        yield folder


@pytest.fixture(scope="module")
def ran(folder: Path) -> tuple[int, dict[str, Any]]:
    """The exit code, and the table as JSON."""
    words = "conformance subjects.toml --precision float32 --property range --property finite --max-examples 2 -n 1"
    code = main([*words.split(), "--cases", "cases", "--json", "table.json"])
    return code, json.loads((folder / "table.json").read_text())


def _subjects(table: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in table["subjects"]}


def _again(folder: Path, expected: str, *more: str) -> int:
    """The table held to something else that is expected; nothing is run."""
    (folder / "other.toml").write_text(expected)
    return main(["conformance", "subjects.toml", "--from", "table.json", "--expected", "other.toml", *more])


def test_what_is_expected_holds(ran: tuple[int, dict[str, Any]]) -> None:
    code, table = ran
    found = _subjects(table)
    faults = {
        (name, cell["property"]) for name, one in found.items() for cell in one["cells"] if cell["level"] == "fault"
    }
    assert (code, table["verdict"], faults) == (ExitCode.HELD, "held", set(_FAULTS))
    assert {cell["standing"] for one in found.values() for cell in one["cells"]} == {None, "expected"}
    assert found["right"]["versions"] == {"fakepeer": "1.2"}
    assert (found["right"]["held_to"], [cell["status"] for cell in found["right"]["cells"]]) == ("mse", ["held"] * 2)
    assert table["command"].endswith("--cases cases --max-examples 2")


def test_what_isnt_there_is_told_and_fails_nothing(ran: tuple[int, dict[str, Any]]) -> None:
    found = _subjects(ran[1])
    states = {name: (one["state"], one["why"]) for name, one in found.items() if one["state"] != "run"}
    assert states["absent"] == ("not installed", "absentpeer is not installed")
    assert states["needy"] == ("not installed", "absent_module.part is not installed")
    assert states["broken"][0] == "can't be imported"
    assert "torchvision_that_is_nowhere" in states["broken"][1]
    assert states.get("on-cuda", ("needs CUDA",))[0] == "needs CUDA"
    assert set(states) - {"on-cuda"} == {"absent", "needy", "broken"}
    # Of a step, neither property is one.
    assert (found["a-step"]["state"], found["a-step"]["cells"]) == ("run", [])


def test_each_violation_has_a_case_that_replays(ran: tuple[int, dict[str, Any]], folder: Path) -> None:
    cells = [(one, cell) for one in ran[1]["subjects"] for cell in one["cells"] if cell["status"] == "violated"]
    assert len(cells) == len(_FAULTS)
    for one, cell in cells:
        assert cell["alone"] is True, cell
        path = folder / cell["case_file"]
        assert path.parent == folder / "cases" / one["name"]
        assert json.loads(path.read_text())["subject"]["spec"] == one["subject"]["spec"]
    assert {path.parent.name for path in (folder / "cases").glob("*/*.json")} == {name for name, _ in _FAULTS}
    (own,) = [cell for one, cell in cells if one["name"] == "by-path"]
    assert main([*own["replay"].split()[1:]]) == ExitCode.VIOLATED


def test_an_unexpected_violation_fails(
    ran: tuple[int, dict[str, Any]], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = "\n".join([_REASON, *(_expecting(*fault) for fault in _FAULTS[1:])])
    assert _again(folder, expected) == ExitCode.VIOLATED
    told = capsys.readouterr().out
    assert re.search(r"^UNEXPECTED negative: range under float32: the loss is -", told, re.MULTILINE)
    assert "NOT AS EXPECTED" in told
    assert told.count("UNEXPECTED") == 1
    assert "GONE" not in told


def test_what_is_gone_is_told_and_fails(
    ran: tuple[int, dict[str, Any]], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _again(folder, _EXPECTED + _expecting("right", "finite")) == ExitCode.VIOLATED
    told = capsys.readouterr().out
    assert "GONE right: finite under float32: expected at level fault, now held" in told
    assert "1 gone" in told


def test_what_is_not_on_every_processor_is_not_gone(
    ran: tuple[int, dict[str, Any]], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here_or_not = _expecting("right", "finite") + "not_everywhere = true\n"
    assert _again(folder, _EXPECTED + here_or_not) == ExitCode.HELD
    assert "GONE" not in capsys.readouterr().out


def test_a_graver_violation_than_is_expected_fails(
    ran: tuple[int, dict[str, Any]], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = "\n".join([_REASON, _expecting("negative", "range", "rounding"), *(_expecting(*f) for f in _FAULTS[1:])])
    assert _again(folder, expected) == ExitCode.VIOLATED
    assert "GRAVER negative: range under float32: expected at level rounding" in capsys.readouterr().out


def test_what_is_expected_where_nothing_was_run_is_not_gone(ran: tuple[int, dict[str, Any]], folder: Path) -> None:
    assert _again(folder, _EXPECTED + _expecting("absent", "range") + _expecting("right", "accuracy")) == ExitCode.HELD


def _as_rounding(folder: Path, table: dict[str, Any]) -> list[str]:
    """The table with ``negative``'s fault made a lesser violation; the command that reads it."""
    for cell in _subjects(table)["negative"]["cells"]:
        cell["level"] = cell["level"] and "rounding"
    (folder / "lesser.json").write_text(json.dumps(table))
    return ["conformance", "subjects.toml", "--from", "lesser.json", "--expected", "other.toml", "--only", "negative"]


def test_a_lesser_violation_needs_to_be_expected_where_all_are(
    ran: tuple[int, dict[str, Any]], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = _as_rounding(folder, json.loads((folder / "table.json").read_text()))
    (folder / "other.toml").write_text("")
    assert main(command) == ExitCode.HELD
    assert main([*command, "--strict"]) == ExitCode.VIOLATED
    assert "UNEXPECTED negative: range" in capsys.readouterr().out


def test_a_fault_that_became_less_is_gone(
    ran: tuple[int, dict[str, Any]], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = _as_rounding(folder, json.loads((folder / "table.json").read_text()))
    (folder / "other.toml").write_text(_REASON + _expecting("negative", "range"))
    assert main(command) == ExitCode.VIOLATED
    assert "GONE negative: range under float32: expected at level fault, now rounding alone" in capsys.readouterr().out


class _Slow:
    """In the place of processes: one property is held, and the second takes too long."""

    def run(self, order: dict[str, Any], seconds: float) -> Record:
        (first, second), held = order["tasks"], {"level": None, "examples": 1, "seconds": 0.1, "message": ""}
        row = {"property": first[0], "precision": first[1], "status": "held", "descriptor": None, **held}
        loaded = {"held_to": "mse", "sentence": "", "table": {}}
        return Record([row], second, 3, ended="still running after 1 s", overdue=True, loaded=loaded)

    def close(self) -> None: ...


def test_what_takes_too_long_is_not_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "Forks", lambda guardian: _Slow())
    listed = only(read_subjects(folder / "subjects.toml"), "right")
    asked = running.Asked(folder / "cases", properties=("range", "finite"), precisions=("float32",))
    table = running.run_table(listed, (), asked)
    assert [(cell.status.value, cell.message) for cell in table.found[0].cells] == [
        ("held", ""),
        ("not run", "still running after 1 s"),
    ]
    assert table.exit_code is ExitCode.INCOMPLETE


def test_nothing_judged_is_incomplete(ran: tuple[int, dict[str, Any]], folder: Path) -> None:
    assert _again(folder, _EXPECTED, "--only", "absent") == ExitCode.INCOMPLETE


def test_the_renderings_escape_and_load_nothing(ran: tuple[int, dict[str, Any]], folder: Path) -> None:
    assert _again(folder, _EXPECTED, "--html", "table.html", "--markdown", "table.md") == ExitCode.HELD
    html, markdown = (folder / "table.html").read_text(), (folder / "table.md").read_text()
    assert "default-src 'none'" in html
    assert not re.findall(r"(?:src|href)\s*=\s*(?![\"']?(?:data:|#))", html)
    assert "<b>|" not in html
    assert "ValueError: &lt;b&gt;" in html
    assert "https://example.org/issues/1" in html
    assert "&lt;b&gt;\\|\\`\\*bold" in markdown
    assert "1. it was made so <https://example.org/issues/1>" in markdown
    assert "| not installed |" in markdown


def test_a_subject_that_no_longer_fits_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "misfit.toml").write_text(_subject("renamed", "fakepeer:of_another_name"))
    words = "conformance misfit.toml --expected other.toml --property range --precision float32 --max-examples 1"
    (folder / "other.toml").write_text("")
    assert main([*words.split(), "--cases", "cases"]) == ExitCode.SUBJECT
    assert "DOES NOT FIT renamed: fakepeer:of_another_name: fakepeer has no" in capsys.readouterr().out


def test_a_case_that_needs_others_before_it_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "remembering.toml").write_text(_subject("remembering", "fakepeer:once_seen"))
    (folder / "other.toml").write_text(_REASON + _expecting("remembering", "range"))
    words = "conformance remembering.toml --expected other.toml --property range --precision float32 --max-examples 60"
    assert main([*words.split(), "--cases", "cases", "--json", "remembering.json"]) == ExitCode.HELD
    (one,) = json.loads((folder / "remembering.json").read_text())["subjects"]
    assert [(cell["level"], cell["alone"]) for cell in one["cells"]] == [("fault", False)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no entries: it needs a [[subject]]"),
        ("[[subject]\n", "subjects.toml"),
        ('[[subject]]\nname = "a b"\nloss = "x:y"\n', "name must be of letters, digits"),
        ('[[subject]]\nname = "a"\n', "must name one subject: loss or step"),
        (_subject("a", "x:y", ""), "packages must name at least one"),
        (_subject("a", "x:y") * 2, "names 'a' twice"),
        (_subject("a", "x:y") + "colour = 1\n", "has the unknown key 'colour'"),
        (_subject("a", "x:y") + "cuda = 1\n", "cuda must be true or false, not 1"),
        (_subject("a", "x:y") + "similarity = 3\n", "similarity must be true or false, not 3"),
        ("subject = 3\n", "subject must be a list of tables"),
    ],
)
def test_malformed_subjects_are_one_sentence(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "subjects.toml").write_text(text)
    assert main(["conformance", str(tmp_path / "subjects.toml")]) == ExitCode.USAGE
    told = capsys.readouterr().err
    assert said in told
    assert len(told.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (_REASON.replace("https", "ftp"), "link must be an address"),
        (_REASON * 2, "names 'planted' twice"),
        (_REASON + _expecting("b", "range"), "there is no subject 'b'; known are a"),
        (_REASON + _expecting("a", "rang"), "did you mean 'range'?"),
        (_REASON + _expecting("a", "range", "grave"), "there is no level 'grave'"),
        (_REASON + _expecting("a", "range") * 2, "expects range of a under float32 twice"),
        (_REASON + _expecting("a", "range") + "not_everywhere = 1\n", "not_everywhere must be true or false, not 1"),
        (_REASON + _expecting("a", "range").replace('"float32"', '"float33"'), "there is no precision 'float33'"),
        (_REASON + _expecting("a", "range").replace('["float32"]', "[]"), "precisions must name at least one"),
        (_expecting("a", "range"), "there is no reason 'planted'"),
    ],
)
def test_malformed_expectations_are_one_sentence(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "subjects.toml").write_text(_subject("a", "x:y"))
    (tmp_path / "expected.toml").write_text(text)
    assert main(["conformance", str(tmp_path / "subjects.toml")]) == ExitCode.USAGE
    told = capsys.readouterr().err
    assert said in told
    assert len(told.strip().splitlines()) == 1


@pytest.mark.parametrize(("words", "said"), [("--max-examples 0", "from 1 to"), ("--timeout 0", "above 0")])
def test_numbers_out_of_range_are_refused(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", *words.split()]) == ExitCode.USAGE
    assert said in capsys.readouterr().err


def test_a_table_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "subjects.toml").write_text(_subject("a", "x:y"))
    for text in ("[]", '{"schema": "harness-conformance/1"}', '{"schema": "harness-conformance/1", "subjects": [1]}'):
        (tmp_path / "table.json").write_text(text)
        words = ["conformance", str(tmp_path / "subjects.toml"), "--from", str(tmp_path / "table.json")]
        assert main(words) == ExitCode.USAGE
        assert "is no harness-conformance/1" in capsys.readouterr().err
