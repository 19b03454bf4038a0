"""The committed table is as its page tells it, and each violation in it has a case that replays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.conformance.presence import absence, import_failure
from harness.conformance.reading import read_expected, read_subjects
from harness.conformance.table import Listed, State, Table
from harness.engine.judge import judge_calls
from harness.engine.session import Session
from harness.errors import ExitCode
from harness.findings.case_file import CaseFile, read_case_file
from harness.oracle.levels import Level
from harness.reports.conformance import markdown
from harness.reports.conformance_json import read_conformance

_ROOT = Path(__file__).resolve().parents[3]
_FOLDER = _ROOT / "conformance"
_LISTED = read_subjects(_FOLDER / "subjects.toml")
# Below its bound by less than this, a case may have been beyond it on another processor.
_NEAR = 0.5


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(_ROOT)


def _table() -> Table:
    listed = read_subjects(_FOLDER / "subjects.toml")
    return read_conformance(_FOLDER / "table.json", listed, read_expected(_FOLDER / "expected.toml", listed))


def test_the_page_is_what_the_table_renders_to() -> None:
    page = (_ROOT / "docs" / "reference" / "conformance.md").read_text()
    told = "harness conformance --from conformance/table.json --markdown docs/reference/conformance.md makes it again"
    assert page == markdown(_table()), told


def test_all_is_as_expected() -> None:
    table = _table()
    assert [found.listed.name for found in table.found] == [one.name for one in _LISTED]
    assert table.exit_code is ExitCode.HELD
    assert all(cell.expected.link.startswith("https://") for one in table.found for cell in one.cells if cell.expected)


def test_every_case_file_is_of_the_table_and_of_no_one_machine() -> None:
    data: dict[str, Any] = json.loads((_FOLDER / "table.json").read_text())
    cells = [cell for one in data["subjects"] for cell in one["cells"]]
    named = {cell["case_file"] for cell in cells if cell["case_file"]}
    assert all(cell["case_file"] for cell in cells if cell["status"] == "violated")
    files = [path.relative_to(_ROOT) for path in (_FOLDER / "cases").rglob("*") if path.is_file()]
    assert {path.as_posix() for path in files} == named
    for path in (_FOLDER / "table.json", *files):
        text = path.read_text()
        assert str(Path.home()) not in text
        assert "/tmp/" not in text


@pytest.mark.parametrize("listed", _LISTED, ids=lambda one: one.name)
def test_the_cases_replay(listed: Listed) -> None:
    """Each fault shows here, or nearly does: what rounding leaves differs between processors. One that is not
    everywhere may be gone, and so may one in ten of what is no fault.
    """
    if (absent := absence(listed)) is not None:
        pytest.skip(absent[1])
    (found,) = [found for found in _table().found if found.listed.name == listed.name]
    if found.state is not State.RUN and (why := import_failure(listed)):
        pytest.skip(why)
    files = dict(_files(found.cells))
    assert files or not found.cells
    if not files:
        return
    session, lesser_gone = Session(next(iter(files)).settings()), []
    try:
        for file, cell in files.items():
            assert (file.subject.spec, file.subject.truth) == (listed.spec.spec, listed.spec.truth)
            verdict = judge_calls(session, file.calls)
            nearly = not verdict.holds or verdict.badness > _NEAR
            if not nearly and cell.level is not Level.FAULT:
                lesser_gone.append(file.file_name())
            elif not nearly:
                assert cell.expected is not None, file.file_name()
                assert cell.expected.not_everywhere, file.file_name()
    finally:
        session.close()
    assert len(lesser_gone) <= len(files) / 10, lesser_gone


def _files(cells: Any) -> Iterator[tuple[CaseFile, Any]]:
    for cell in cells:
        # One that needs others before it says so in the table.
        if cell.case_file is not None and cell.alone is not False:
            yield read_case_file(cell.case_file), cell
