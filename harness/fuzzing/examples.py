"""Examples: cases that failed elsewhere or before, and come from the database. They are tried before anything else.

What they do is told beside the units' findings and is no part of them: it depends on what the database held.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from harness.engine.plan import Task
from harness.errors import HarnessError, UsageError
from harness.files import json_value, read_json, write_atomically
from harness.findings.case_file import read_case_file
from harness.findings.known_cases import case_paths
from harness.fuzzing.campaign_folder import CampaignFolder
from harness.fuzzing.records import Found, found_from_json
from harness.fuzzing.unit_process import UnitProcess
from harness.fuzzing.units import Shard

# Of one property and precision.
MOST_TRIED = 20


def untried(folder: CampaignFolder, shard: Shard) -> list[Path]:
    """The examples that this shard is to try: its share, at most so many of each property and precision."""
    tried = {path.name for path in tried_paths(folder)}
    counts = Counter(_stem(name) for name in tried)
    found = []
    for path in case_paths(folder.examples):
        if path.name in tried or not shard.takes(zlib.crc32(path.name.encode())):
            continue
        counts[_stem(path.name)] += 1
        if counts[_stem(path.name)] <= MOST_TRIED:
            found.append(path)
    return found


def _stem(name: str) -> str:
    return name.rsplit(".", 2)[0]


def try_out(folder: CampaignFolder, path: Path, process: UnitProcess) -> Found | None:
    """Try one, and keep what came of it; ``None`` where it can't be judged any more."""
    try:
        file = read_case_file(path)
        found = process.try_example(path, file.task, file.case)
    except HarnessError:
        return None
    write_atomically(folder.path / "tried" / path.name, json.dumps(json_value(found.as_json())) + "\n")
    return found


def tried(folder: CampaignFolder) -> Iterator[Found]:
    """What the examples did that were tried; a damaged record of one is passed over."""
    tasks: set[Task] = {task for group in folder.plan.units.groups for task in group}
    for path in tried_paths(folder):
        try:
            found = found_from_json(read_json(path))
        except (UsageError, KeyError, TypeError, ValueError, AttributeError):
            continue
        if found.task in tasks:
            yield found


def tried_paths(folder: CampaignFolder) -> list[Path]:
    """Where it is kept."""
    return case_paths(folder.path / "tried")
