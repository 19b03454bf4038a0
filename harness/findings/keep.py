"""A mended case becomes a regression case: a file in the repository that every check runs again."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from harness.findings.replay import Answer, Given, Replayed, replay_contained, settings_for


def keep(path: Path, folder: Path, given: Given) -> tuple[Replayed, Path | None]:
    """Run the case again and, where it holds now, write it into the folder of regression cases.

    Args:
        given: by their names, the settings that stand against the file's, as :func:`settings_for` takes them; the case
            is kept with these.

    Returns:
        What the case does now; and the regression case's file, or ``None`` where it still fails and so isn't kept.

    Raises:
        HarnessError: no answer, as of a replay.
        OSError: the file can't be written.
    """
    replayed = replay_contained(path, given)
    if replayed.answer is Answer.FAILED:
        return replayed, None
    file = replayed.file
    settings = settings_for(file, given)
    subject = settings.subject(file.task.kind)
    assert subject is not None
    # A repository is checked out elsewhere too: its folders are told from where the command is run.
    kept = replace(
        file,
        subject=replace(subject, root=_from_here(subject.root), spec=_spec_from_here(subject.spec)),
        images=_from_here(settings.images),
    )
    target = folder / kept.file_name()
    kept.write(target)
    return replayed, target


def _spec_from_here(spec: str) -> str:
    location, _, name = spec.rpartition(":")
    return f"{_from_here(location)}:{name}" if location.endswith(".py") else spec


def _from_here(path: str | None) -> str | None:
    """The path from the working directory where it lies under it, with slashes."""
    if path is None:
        return None
    here = Path.cwd()
    whole = Path(os.path.normpath(here / path))
    return whole.relative_to(here).as_posix() if whole.is_relative_to(here) else path
