"""Bring the campaigns of several shards together in one folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import UsageError
from harness.files import one_line, write_atomically
from harness.fuzzing.campaign_folder import CampaignFolder, opened
from harness.fuzzing.examples import tried_paths
from harness.fuzzing.plan import difference
from harness.fuzzing.records import UnitRecord, read_record, same_findings


@dataclass
class Merged:
    """What was brought together.

    Attributes:
        folder: all of it.
        added: records that weren't there.
        twice: units that more than one had, with the same findings.
        notes: sentences on records that were left out: damaged ones, and ones that tell otherwise of the same unit.
    """

    folder: CampaignFolder
    added: int = 0
    twice: int = 0
    notes: list[str] = field(default_factory=list)


def merge(
    sources: Sequence[Path],
    target: Path,
    begin: Callable[[int], None] = lambda _: None,
    did: Callable[[str], None] = lambda _: None,
) -> Merged:
    """Copy the records and cases of the sources that the target lacks; what it has stays.

    It can be killed and begun again. A source is left as it is.

    Raises:
        UsageError: a folder is no campaign, or of another one than the first.
    """
    folders = [opened(path) for path in sources]
    for folder in folders[1:]:
        if (why := difference(folders[0].plan, folder.plan)) is not None:
            # Said from the first's side.
            raise UsageError(
                f"{one_line(str(folders[0].path))} and {one_line(str(folder.path))} are two campaigns: the first is "
                f"{why}."
            )
    merged = Merged(opened(target, folders[0].plan))
    others = [folder for folder in folders if folder.path.resolve() != target.resolve()]
    numbers = [folder.done() for folder in others]
    begin(sum(map(len, numbers)))
    there = set(merged.folder.done())
    for folder, indices in zip(others, numbers, strict=True):
        for index in indices:
            _merge_unit(folder, index, merged, there)
            did(f"unit {index}")
        for path in tried_paths(folder):
            _copy(path, merged.folder.path / "tried" / path.name)
        for path in sorted(folder.examples.glob("*.json")):
            _copy(path, merged.folder.examples / path.name)
    return merged


def _merge_unit(folder: CampaignFolder, index: int, merged: Merged, there: set[int]) -> None:
    path = folder.record_path(index)
    unit = merged.folder.plan.units[index]
    try:
        record = read_record(path, unit)
        if index in there:
            _compare(record, path, merged)
            return
        names = [name for one in record.found for name in (one.case, one.worst) if name]
        for name in names:
            merged.folder.add_case(name, folder.case_content(name))
    except UsageError as error:
        merged.notes.append(f"left out: {error}")
        return
    # As it is, bytes and all: it has been found whole.
    _copy(path, merged.folder.record_path(index))
    there.add(index)
    merged.added += 1


def _compare(record: UnitRecord, path: Path, merged: Merged) -> None:
    own = merged.folder.record_path(record.unit.index)
    try:
        same = same_findings(record, read_record(own, record.unit))
    except UsageError as error:
        merged.notes.append(f"mended with that of {one_line(str(path))}: {error}")
        _copy(path, own)
        return
    if same:
        merged.twice += 1
    else:
        merged.notes.append(
            f"unit {record.unit.index} came out otherwise in {one_line(str(path))} (shard {record.shard}) than in what "
            "was merged before, which is kept: the machines differ, or the subject isn't repeatable."
        )


def _copy(source: Path, target: Path) -> None:
    if not target.exists() or source.read_bytes() != target.read_bytes():
        write_atomically(target, source.read_text(encoding="utf-8"))
