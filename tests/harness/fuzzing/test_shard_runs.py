"""Units run in processes of their own: what they find depends on the campaign alone, whoever runs them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cases.descriptors import LossCase
from harness.config import Settings
from harness.engine.plan import Task
from harness.engine.result import Status
from harness.errors import SubjectError
from harness.findings.case_file import CaseFile, read_case_file
from harness.fuzzing.campaign_folder import opened
from harness.fuzzing.examples import tried, try_out, untried
from harness.fuzzing.merging import merge
from harness.fuzzing.plan import make_plan
from harness.fuzzing.records import UnitRecord
from harness.fuzzing.shard_run import HUNG, OUT_OF_TIME, Bounds, Processes, ShardRun
from harness.fuzzing.summary import findings
from harness.fuzzing.units import Shard
from harness.oracle.levels import Level
from harness.subject_spec import SubjectKind

TRIED = Path(__file__).with_name("tried.py")
ROUNDS = 4


def settings_of(loss: str, **more: Any) -> Settings:
    """Of a small campaign of a loss in ``tried.py``."""
    small = {"properties": ("finite", "repeatable"), "precisions": ("float32", "float16-inputs"), "max_examples": 20}
    return Settings(loss=f"{TRIED}:{loss}", truth="mse", workers=1, **{**small, **more})


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    """Of the loss ``dark``, in the two processes of which the second is started when it is needed."""
    with Processes(replace(settings_of("dark"), workers=2)) as processes:
        yield processes


@pytest.fixture(scope="module")
def plan(processes: Processes) -> Any:
    return make_plan(settings_of("dark"), processes.load())


def _ran(processes: Processes, plan: Any, shard: str = "0/1", done: Sequence[int] = ()) -> list[UnitRecord]:
    index, count = map(int, shard.split("/"))
    run = ShardRun(plan.units, Shard(index, count), Bounds(ROUNDS), done)
    return sorted(run.records(processes), key=lambda record: record.unit.index)


@pytest.fixture(scope="module")
def alone(processes: Processes, plan: Any) -> list[UnitRecord]:
    """The whole campaign in one shard."""
    return _ran(processes, plan)


def test_it_finds_in_some_units_what_is_there(alone: list[UnitRecord]) -> None:
    assert [record.unit.index for record in alone] == list(range(4 * ROUNDS))
    violated = {found.task.property for record in alone for found in record.found if found.status is Status.VIOLATED}
    assert violated == {"finite"}
    assert all(record.cases >= 5 for record in alone)
    # In some rounds and not in others.
    assert {found.status for record in alone for found in record.found if found.task.property == "finite"} == {
        Status.HELD,
        Status.VIOLATED,
    }


@pytest.mark.parametrize("count", [2, 3])
def test_shards_find_the_same(
    processes: Processes, plan: Any, alone: list[UnitRecord], tmp_path: Path, count: int
) -> None:
    paths = [tmp_path / str(i) for i in range(count)]
    for i, path in enumerate(paths):
        folder = opened(path, plan)
        for record in _ran(processes, plan, f"{i}/{count}"):
            folder.add(record)
    merged = merge(paths, tmp_path / "merged").folder
    assert findings(merged.records()) == findings(alone)
    for record in alone:
        for name, content in record.files.items():
            ours = {**merged.case_content(name), "replay": None}
            assert ours == {**content, "replay": None}


def test_what_has_a_record_is_not_run_again(processes: Processes, plan: Any, alone: list[UnitRecord]) -> None:
    left = _ran(processes, plan, done=[i for i in range(16) if i not in (3, 7)])
    assert findings(left) == findings(alone[i] for i in (3, 7))


def test_a_finding_is_the_one_of_a_check_with_its_seed(alone: list[UnitRecord]) -> None:
    from harness.engine.events import unheard
    from harness.engine.run import TaskRunner

    record = next(one for one in alone if one.files)
    (task,), (found,) = record.unit.tasks, record.found
    result = TaskRunner(replace(settings_of("dark"), seed=record.unit.seed)).run(task, unheard)
    assert (result.status, result.level, result.message) == (found.status, found.level, found.message)
    assert result.case is not None
    assert CaseFile.of(settings_of("dark"), task, result.case).file_name() == found.case


def test_no_unit_begins_after_the_time(processes: Processes, plan: Any) -> None:
    run = ShardRun(plan.units, Shard(), Bounds(None, time.monotonic()), ())
    assert list(run.records(processes)) == []
    assert run.stopped == OUT_OF_TIME
    run = ShardRun(plan.units, Shard(), Bounds(1, time.monotonic()), range(4))
    assert list(run.records(processes)) == []
    assert run.stopped == ""


def test_examples_are_tried_by_one_shard(
    processes: Processes, plan: Any, alone: list[UnitRecord], tmp_path: Path
) -> None:
    """One that fails, and one that doesn't any more."""
    folder = opened(tmp_path, plan)
    record = next(one for one in alone if one.files)
    fails = record.found[0].case
    for name, content in record.files.items():
        folder.add_case(name, content)
    file = read_case_file(folder.cases / fails)
    mended = replace(file, case=LossCase())
    folder.examples.mkdir()
    file.write(folder.examples / fails)
    mended.write(folder.examples / mended.file_name())
    assert sorted(p for i in range(3) for p in untried(folder, Shard(i, 3))) == untried(folder, Shard())
    for path in untried(folder, Shard()):
        assert try_out(folder, path, processes.all[0]) is not None
    assert {one.case: one.status for one in tried(folder)} == {
        fails: Status.VIOLATED,
        mended.file_name(): Status.HELD,
    }
    assert untried(folder, Shard()) == []


@pytest.mark.slow
def test_what_takes_its_process_along_costs_the_case() -> None:
    """Some 10 s: two processes that import torch."""
    settings = settings_of("ends", precisions=("float32",), properties=("finite",))
    with Processes(settings) as processes:
        plan = make_plan(settings, processes.load())
        (record,) = ShardRun(plan.units, Shard(), Bounds(1), ()).records(processes)
        (found,) = record.found
        again = processes.all[0].run(plan.units[0], "0/1")
    assert (found.status, found.level, found.message) == (
        Status.VIOLATED,
        Level.FAULT,
        "ends the interpreter (exit code 7)",
    )
    assert not found.hung
    assert list(record.files) == [found.case]
    # What ran before counts, the case itself too; and once more it is the same.
    assert record.cases == found.examples >= 1
    assert findings([again]) == findings([record])


@pytest.mark.slow
def test_a_subject_that_hangs_is_ended_and_given_up() -> None:
    """Some 10 s."""
    settings = settings_of(
        "hangs", precisions=("float16-inputs",), properties=("finite",), case_timeout=1.0, max_examples=1
    )
    with Processes(settings) as processes:
        plan = make_plan(settings, processes.load())
        run = ShardRun(plan.units, Shard(), Bounds(50), ())
        records = list(run.records(processes))
    assert 3 <= len(records) <= 4
    assert run.stopped == HUNG
    for record in records:
        (found,) = record.found
        assert (found.message, found.hung, found.level) == ("still running after 1 s", True, Level.FAULT)
        assert found.case in record.files


@pytest.mark.slow
def test_what_can_not_be_forked_has_a_process_for_each_unit() -> None:
    """Some 15 s: each of them imports torch."""
    settings = settings_of("Threaded", precisions=("float32",), properties=("repeatable", "finite"))
    with Processes(settings) as processes:
        plan = make_plan(settings, processes.load())
        records = list(ShardRun(plan.units, Shard(), Bounds(1), ()).records(processes))
    assert sorted(record.unit.index for record in records) == [0, 1]
    assert {found.status for record in records for found in record.found} <= {Status.HELD, Status.VIOLATED}


def test_a_subject_that_is_not_there_is_told() -> None:
    with Processes(settings_of("nothing_of_the_name")) as processes, pytest.raises(SubjectError, match="nothing_of"):
        processes.load()


def test_tasks_that_share_their_runs_are_one_unit() -> None:
    from harness.fuzzing.plan import Loaded

    settings = Settings(step="m:T", precisions=("float32",), properties=("scale", "counters", "ranks-agree"))
    together = make_plan(settings, Loaded(("training", "pair of ranks"), {}, ""))
    names = [[task.property for task in group] for group in together.units.groups]
    assert sorted(map(sorted, names)) == [["counters", "scale"], ["ranks-agree"]]
    losses = replace(settings, step=None, loss="m:L", properties=("range", "accuracy"))
    apart = make_plan(losses, Loaded(("loss",), {}, ""))
    assert sorted(len(group) for group in apart.units.groups) == [1, 1]
    assert Task(SubjectKind.LOSS, "range", "float32") in {task for group in apart.units.groups for task in group}
