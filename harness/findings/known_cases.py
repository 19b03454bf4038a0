"""What failed before: the case files that earlier runs left, and those that are kept as regression cases."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from harness.cases.descriptors import Case, LossCase, MaskKind, PictureKind
from harness.config import Settings
from harness.engine.plan import Task
from harness.engine.result import KnownCase
from harness.errors import UsageError
from harness.findings.case_file import CaseFile, read_case_file

# Of one property and precision, of the cases that earlier runs left: more would take the search's place.
_MOST_LEFT = 20


def known_cases(settings: Settings, tasks: Collection[Task]) -> dict[Task, tuple[KnownCase, ...]]:
    """The cases to be tried first, by task: the regression cases, then what earlier runs left, the smallest first.

    A regression case belongs to the subject that is named alike, however it is called and whatever it is held to. What
    an earlier run left must be of a subject that is the same in all that, and a file there that can't be read is passed
    over: it is no guard.

    Raises:
        UsageError: a regression case can't be read.
    """
    wanted = set(tasks)
    found: dict[Task, list[KnownCase]] = {}
    for path in case_paths(Path(settings.regressions_dir)):
        file = read_case_file(path)
        if file.task in wanted and _is_of(file, settings) and _has_its_pictures(file, settings):
            found.setdefault(file.task, []).append(KnownCase(file.case, file.earlier, str(path)))
    for task, files in _left(settings, wanted).items():
        known = found.setdefault(task, [])
        kept = {one.case for one in known}
        files = sorted(
            (file for file in files if file.case not in kept), key=lambda file: (_size(file.case), repr(file))
        )
        known += [KnownCase(file.case, file.earlier) for file in files[:_MOST_LEFT]]
    return {task: tuple(known) for task, known in found.items()}


def case_paths(folder: Path) -> list[Path]:
    """The case files in a folder, by name; none where there is no such folder.

    Raises:
        UsageError: it can't be listed.
    """
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"{folder} can't be listed: {error.strerror}.") from error
    return [folder / name for name in names if name.endswith(".json") and not name.startswith((".", "in-flight."))]


def _left(settings: Settings, wanted: Collection[Task]) -> dict[Task, list[CaseFile]]:
    by_name = {f"{task.kind.value}.{task.property}.{task.precision}": task for task in wanted}
    left: dict[Task, list[CaseFile]] = {}
    for path in case_paths(Path(settings.cases_dir)):
        # The name says which, so that the files of all other runs needn't be read.
        if path.name.rsplit(".", 2)[0] not in by_name:
            continue
        try:
            file = read_case_file(path)
        except UsageError:
            continue
        if (
            file.task in wanted
            and file.subject == settings.subject(file.task.kind)
            and _has_its_pictures(file, settings)
        ):
            left.setdefault(file.task, []).append(file)
    return left


def _is_of(file: CaseFile, settings: Settings) -> bool:
    subject = settings.subject(file.task.kind)
    return subject is not None and _named(file.subject.spec) == _named(subject.spec)


def _named(spec: str) -> str:
    """A spec, of a file by its whole path."""
    location, _, name = spec.rpartition(":")
    return f"{Path(location).absolute()}:{name}" if location.endswith(".py") else spec


def _has_its_pictures(file: CaseFile, settings: Settings) -> bool:
    case = file.case
    if not isinstance(case, LossCase) or (
        case.picture.kind is not PictureKind.FILE and case.mask.kind is not MaskKind.OWN
    ):
        return True
    return (
        bool(file.images and settings.images)
        and Path(str(file.images)).resolve() == Path(str(settings.images)).resolve()
    )


def _size(case: Case) -> int:
    return case.elements if isinstance(case, LossCase) else case.micro_steps
