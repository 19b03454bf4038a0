"""A campaign on disk: its plan, a record for each unit that is done, and the cases that they found.

Whatever is in it was moved there whole, so it can be killed at any moment: what is missing is done again.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.files import one_line, read_json, write_atomically
from harness.findings.case_file import replay_command
from harness.fuzzing.plan import Plan, difference, read_plan
from harness.fuzzing.records import CASE_NAME, UnitRecord, read_record
from harness.fuzzing.units import MOST_UNITS, Shard

# A folder with more files is slow to list on some file systems.
_IN_A_FOLDER = 1000


class CampaignFolder:
    """The folder of one campaign.

    Attributes:
        path: of the folder.
        plan: of the campaign.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path, self.plan = path, plan

    @property
    def cases(self) -> Path:
        """Where the case files of what was found lie."""
        return self.path / "cases"

    @property
    def examples(self) -> Path:
        """Where the case files lie that came from a database."""
        return self.path / "examples"

    def record_path(self, index: int) -> Path:
        """Where the record of this unit lies."""
        return self.path / "units" / f"{index // _IN_A_FOLDER:06d}" / f"{index:09d}.json"

    def add(self, record: UnitRecord) -> None:
        """Keep what came of a unit: the cases first, so that no record names one that isn't there."""
        for name, content in record.files.items():
            self.add_case(name, content)
        record.write(self.record_path(record.unit.index))

    def add_case(self, name: str, content: Mapping[str, Any]) -> None:
        """Keep a case file, where there is none of the name yet."""
        if not CASE_NAME.fullmatch(name):
            raise UsageError(f"{one_line(name)} is no name of a case file.")
        path = self.cases / name
        if not path.exists():
            write_atomically(path, json.dumps({**content, "replay": replay_command(path)}, indent=2) + "\n")

    def done(self) -> list[int]:
        """The numbers of the units that have a record, in order."""
        found = []
        for folder in _listed(self.path / "units"):
            for name in _listed(self.path / "units" / folder):
                number = name.removesuffix(".json")
                if name.endswith(".json") and number.isdecimal() and int(number) < MOST_UNITS:
                    found.append(int(number))
        return sorted(found)

    def records(self, damaged: list[str] | None = None) -> Iterator[UnitRecord]:
        """The records, in order.

        Args:
            damaged: takes a sentence for each that can't be used; it is set aside, so that its unit is done again.

        Raises:
            UsageError: one can't be used, and there is no such list.
        """
        for index in self.done():
            path = self.record_path(index)
            try:
                yield read_record(path, self.plan.units[index])
            except UsageError as error:
                if damaged is None:
                    raise
                with contextlib.suppress(OSError):
                    os.replace(path, path.with_suffix(".damaged"))
                damaged.append(f"{str(error).rstrip('.')}; unit {index} is to be done again.")

    def case_content(self, name: str) -> Any:
        """What a case file of it holds, as plain values."""
        return read_json(self.cases / name)


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UsageError(f"{folder} can't be listed: {error.strerror}.") from error


def opened(path: Path, plan: Plan | None = None) -> CampaignFolder:
    """The campaign in this folder; with a plan, of that plan, and begun where there is none.

    Raises:
        UsageError: there is none, or it is of another plan.
    """
    file = path / "plan.json"
    if plan is None or file.exists():
        found = read_plan(file)
        if plan is not None and (why := difference(found, plan)) is not None:
            raise UsageError(
                f"the campaign in {one_line(str(path))} is {why}; name another folder with --campaign, or remove this "
                "one."
            )
        return CampaignFolder(path, found)
    plan.write(file)
    return CampaignFolder(path, plan)


@contextlib.contextmanager
def one_at_a_time(folder: CampaignFolder, shard: Shard) -> Iterator[None]:
    """Hold the shard for this process; a kill gives it back. Where the system has no such locks, nothing is held.

    Raises:
        UsageError: another process has it.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    path = folder.path / f".shard-{shard.index}-of-{shard.count}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"shard {shard} of the campaign in {one_line(str(folder.path))} is being run already; wait for it, or "
                "name another shard with --shard."
            ) from None
        except OSError:
            pass  # a file system without locks
        yield
