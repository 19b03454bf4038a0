"""The table of public packages as one page that loads nothing."""

from __future__ import annotations

from pathlib import Path

from harness.conformance.table import State, Table
from harness.files import write_atomically
from harness.reports.conformance import (
    HEADINGS,
    level_of,
    matrix,
    precisions_of,
    reasons_of,
    replays,
    row,
    sentences,
    standing_words,
    summary,
    told_of,
    violations,
    word,
)
from harness.reports.conformance_json import SCHEMA
from harness.reports.page.rendering import rendered

_CLASSES = {"n/a": "not-applicable", "not run": "not-run"}


def write_conformance_page(path: Path, table: Table) -> None:
    """Write the page atomically.

    Raises:
        OSError: the file can't be written.
    """
    write_atomically(path, conformance_page(table))


def conformance_page(table: Table) -> str:
    """The page. Addresses stand in it as text: a reader's browser is led nowhere."""
    reasons = reasons_of(table)
    subjects = [
        {
            "found": found,
            "versions": ", ".join(f"{name} {version}" for name, version in found.versions.items()),
            "precisions": precisions_of(found),
            "matrix": matrix(found),
            "violations": [(cell, replays(cell), standing_words(cell, reasons)) for cell in violations(found)],
        }
        for found in table.found
        if found.state is State.RUN
    ]
    return rendered(
        "conformance.html.j2",
        schema=SCHEMA,
        table=table,
        verdict={0: "held", 1: "violated"}.get(int(table.exit_code), "incomplete"),
        summary=summary(table),
        told=told_of(table),
        sentences=list(sentences(table))[:-1],
        headings=HEADINGS,
        rows=[row(found) for found in table.found],
        subjects=subjects,
        reasons=[(number, reason, link) for (reason, link), number in reasons.items()],
        word=word,
        level_of=level_of,
        css=lambda cell: _CLASSES.get(word(cell), word(cell)),
    )
