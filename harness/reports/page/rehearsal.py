"""A rehearsal's page: the table, the broken rules with the script's lines around them, every window."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.files import write_atomically
from harness.rehearsal.rehearsal import Rehearsal
from harness.rehearsal.rulebook import claim
from harness.reports.page.rendering import rendered
from harness.reports.rehearsal import by_line, rehearsal_report, verdict
from harness.reports.rehearsal_picture import rehearsal_figure

_AROUND = 3
_LONGEST_FILE = 2_000_000

Line = tuple[int, str, bool]


@dataclass(frozen=True)
class _Found:
    """A broken rule, as the page shows it; its lines are number, text, and whether it is the one that is told."""

    rule: str
    level: str
    claim: str
    sentence: str
    faults: tuple[str, ...]
    lines: tuple[Line, ...]


def write_rehearsal_page(path: Path, rehearsal: Rehearsal) -> None:
    """Write the page atomically: one file that loads nothing.

    Raises:
        OSError: the file can't be written.
    """
    drawn = io.BytesIO()
    rehearsal_figure(rehearsal).savefig(drawn, format="png", dpi=110)
    text = rendered(
        "rehearsal.html.j2",
        report=rehearsal_report(rehearsal),
        verdict=verdict(rehearsal).lower(),
        windows=sum(len(run.windows) for run in rehearsal.runs),
        found=list(_found(rehearsal)),
        picture="data:image/png;base64," + base64.b64encode(drawn.getvalue()).decode(),
    )
    write_atomically(path, text)


def _found(rehearsal: Rehearsal) -> Iterator[_Found]:
    folder = next((run.folder for run in rehearsal.runs if run.folder), "")
    for one, faults in by_line(rehearsal.findings):
        lines = tuple(_lines(folder, one.where))
        yield _Found(one.rule, one.level.value, claim(one.rule), one.sentence, tuple(faults), lines)


def _lines(folder: str, where: str) -> Iterator[Line]:
    """The lines around one of the script's own; none for a library's, or where they can't be read."""
    file, _, number = where.rpartition(":")
    path = Path(folder) / file
    if not (folder and file and number.isdigit() and path.is_file() and path.stat().st_size < _LONGEST_FILE):
        return
    told = int(number)
    for index, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if abs(index - told) <= _AROUND:
            yield index, line, index == told
