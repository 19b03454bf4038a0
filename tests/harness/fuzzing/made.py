"""Campaigns that no subject was run for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.cases.descriptors import LossCase
from harness.engine.plan import Task
from harness.engine.result import Status
from harness.findings.case_file import CaseFile
from harness.fuzzing.campaign_folder import CampaignFolder, opened
from harness.fuzzing.coverage import Coverage
from harness.fuzzing.plan import Plan
from harness.fuzzing.records import Found, UnitRecord
from harness.fuzzing.units import Shard, Units
from harness.oracle.levels import Level
from harness.subject_spec import SubjectKind, SubjectSpec

TASKS = tuple(Task(SubjectKind.LOSS, name, "float32") for name in ("range", "finite", "identity"))
PLAN = Plan(
    {SubjectKind.LOSS: SubjectSpec("losses.py:loss", "/one")},
    None,
    10,
    Units(3, tuple((task,) for task in TASKS)),
    {"loss": "0123"},
    "2.0",
)


def record(index: int, shard: str = "0/1", plan: Plan = PLAN, **more: object) -> UnitRecord:
    """Unit ``index`` done: in the third of the units, ``range`` is violated."""
    unit, coverage = plan.units[index], Coverage()
    case = LossCase(seed=index)
    coverage.count([case])
    (task,) = unit.tasks
    found, files = Found(task, Status.HELD, examples=10), {}
    if task.property == "range":
        file = CaseFile.of(plan.settings(), task, case, "too low")
        found = replace(found, status=Status.VIOLATED, level=Level.FAULT, message="too low", case=file.file_name())
        files = {file.file_name(): file.as_json(Path(file.file_name()))}
    return replace(UnitRecord(unit, shard, 0.5, (found,), coverage, files), **more)  # type: ignore[arg-type]


def campaign(path: Path, units: int = 6, shard: str = "0/1", plan: Plan = PLAN) -> CampaignFolder:
    """A folder with the records of so many units, of this shard alone."""
    folder, (index, count) = opened(path, plan), map(int, shard.split("/"))
    for number in range(units):
        if Shard(index, count).takes(number):
            folder.add(record(number, shard, plan))
    return folder
