"""A campaign's folder: records that are whole or done again, plans that belong together, shards that are merged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.engine.result import Status
from harness.errors import UsageError
from harness.findings.case_file import read_case_file
from harness.fuzzing.campaign_folder import one_at_a_time, opened
from harness.fuzzing.merging import merge
from harness.fuzzing.plan import plan_from_json, read_plan
from harness.fuzzing.records import read_record
from harness.fuzzing.summary import findings
from harness.fuzzing.units import Shard, Units
from harness.subject_spec import SubjectKind, SubjectSpec
from tests.harness.fuzzing.made import PLAN, TASKS, campaign, record


def test_a_record_reads_back(tmp_path: Path) -> None:
    for index in range(3):
        wrote = record(index)
        wrote.write(tmp_path / "record.json")
        assert read_record(tmp_path / "record.json", wrote.unit) == replace(wrote, files={})


def test_a_plan_reads_back(tmp_path: Path) -> None:
    PLAN.write(tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == PLAN
    assert plan_from_json(PLAN.as_json(), "here") == PLAN


def test_case_files_are_there_with_their_own_command(tmp_path: Path) -> None:
    folder = campaign(tmp_path / "one")
    names = {found.case for one in folder.records() for found in one.found if found.case}
    assert len(names) == 2
    for name in names:
        file = read_case_file(folder.cases / name)
        assert file.message == "too low"
        assert str(folder.cases / name) in json.loads((folder.cases / name).read_text())["replay"]


def _cut(text: str) -> str:
    return text[: len(text) // 2]


def _changed(text: str) -> str:
    return text.replace('"examples":10', '"examples":11')


def _of_another_unit(text: str) -> str:
    return json.dumps(record(1).as_json())


@pytest.mark.parametrize("damage", [_cut, _changed, _of_another_unit, lambda text: "", lambda text: "[]"])
def test_a_damaged_record_is_named_and_set_aside(tmp_path: Path, damage: Callable[[str], str]) -> None:
    folder = campaign(tmp_path / "one")
    path = folder.record_path(4)
    path.write_text(damage(path.read_text()))
    with pytest.raises(UsageError, match="000000004"):
        list(folder.records())
    notes: list[str] = []
    assert [one.unit.index for one in folder.records(notes)] == [0, 1, 2, 3, 5]
    (note,) = notes
    assert "000000004.json" in note
    assert "unit 4 is to be done again" in note
    # So that it is done again, and told once.
    assert folder.done() == [0, 1, 2, 3, 5]
    assert path.with_suffix(".damaged").exists()


_ANOTHER = {
    "another subject": replace(PLAN, subjects={SubjectKind.LOSS: SubjectSpec("losses.py:other", "/one")}),
    "its file has changed": replace(PLAN, sources={"loss": "4567"}),
    "another version: harness": replace(PLAN, harness="0.0.0"),
    "another version: torch": replace(PLAN, torch="1.0"),
    "another seed: 3, and not 4": replace(PLAN, units=Units(4, PLAN.units.groups)),
    "10 examples": replace(PLAN, max_examples=11),
    "other properties or precisions: identity": replace(PLAN, units=Units(3, PLAN.units.groups[:2])),
    "run together": replace(PLAN, units=Units(3, (TASKS,))),
    "other pictures": replace(PLAN, images="/pictures"),
}


@pytest.mark.parametrize("says", _ANOTHER)
def test_a_folder_of_another_campaign_is_refused(tmp_path: Path, says: str) -> None:
    campaign(tmp_path / "one", units=1)
    with pytest.raises(UsageError, match=says):
        opened(tmp_path / "one", _ANOTHER[says])
    campaign(tmp_path / "other", units=0, plan=_ANOTHER[says])
    with pytest.raises(UsageError, match="two campaigns"):
        merge([tmp_path / "one", tmp_path / "other"], tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_a_checkout_elsewhere_is_the_same_campaign(tmp_path: Path) -> None:
    campaign(tmp_path / "one", units=1)
    opened(tmp_path / "one", replace(PLAN, subjects={SubjectKind.LOSS: SubjectSpec("losses.py:loss", "/two")}))


@pytest.mark.parametrize("content", ["", "{}", '{"schema": "harness-campaign/1"}', '{"schema": "harness-campaign/2"}'])
def test_a_broken_plan_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(UsageError, match=r"plan\.json"):
        opened(tmp_path, PLAN)


def test_no_campaign_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read"):
        merge([tmp_path / "nothing"], tmp_path / "all")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_merged_shards_are_the_campaign(tmp_path: Path, count: int) -> None:
    whole = campaign(tmp_path / "whole")
    shards = [campaign(tmp_path / f"shard-{i}", shard=f"{i}/{count}") for i in range(count)]
    merged = merge([shard.path for shard in shards], tmp_path / "all")
    assert (merged.added, merged.twice, merged.notes) == (6, 0, [])
    assert findings(merged.folder.records()) == findings(whole.records())
    assert sorted(p.name for p in merged.folder.cases.iterdir()) == sorted(p.name for p in whole.cases.iterdir())
    again = merge([shard.path for shard in shards], tmp_path / "all")
    assert (again.added, again.twice, again.notes) == (0, 6, [])


def test_merging_into_a_shard_adds_the_others(tmp_path: Path) -> None:
    paths = [campaign(tmp_path / f"shard-{i}", shard=f"{i}/2").path for i in range(2)]
    assert merge(paths, paths[0]).added == 3
    assert opened(paths[0]).done() == list(range(6))


def test_shards_that_disagree_are_told(tmp_path: Path) -> None:
    one, other = campaign(tmp_path / "one"), campaign(tmp_path / "other")
    changed = record(2, shard="other machine")
    found = replace(changed.found[0], status=Status.VIOLATED, message="elsewhere it fails")
    replace(changed, found=(found,)).write(other.record_path(2))
    merged = merge([one.path, other.path], tmp_path / "all")
    assert (merged.added, merged.twice) == (6, 5)
    (note,) = merged.notes
    assert "unit 2 came out otherwise" in note
    assert read_record(merged.folder.record_path(2), PLAN.units[2]).found == record(2).found


def test_a_damaged_record_is_left_out_of_a_merge(tmp_path: Path) -> None:
    one, other = campaign(tmp_path / "one"), campaign(tmp_path / "other")
    one.record_path(3).write_text("{")
    merged = merge([one.path], tmp_path / "all")
    assert merged.added == 5
    (note,) = merged.notes
    assert "000000003.json" in note
    # What another shard has whole takes its place.
    assert merge([one.path, other.path], tmp_path / "all").added == 1


def test_a_shard_is_run_once_at_a_time(tmp_path: Path) -> None:
    """The lock is of the file as it was opened: this process can't have it twice either."""
    folder = opened(tmp_path / "one", PLAN)
    with (
        one_at_a_time(folder, Shard(1, 2)),
        one_at_a_time(folder, Shard(0, 2)),
        pytest.raises(UsageError, match=r"shard 1/2 .* is being run already"),
        one_at_a_time(folder, Shard(1, 2)),
    ):
        pass
    with one_at_a_time(folder, Shard(1, 2)):
        pass


def test_a_plan_tells_its_settings() -> None:
    settings = PLAN.settings()
    assert (settings.loss, settings.subject_root, settings.seed, settings.max_examples) == (
        "losses.py:loss",
        "/one",
        3,
        10,
    )
