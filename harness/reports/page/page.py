"""The page: what it says is worked out here, and written by ``page.html.j2``, which escapes all text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup

from harness.errors import UsageError
from harness.files import write_atomically
from harness.reports.advice import Advice, advice
from harness.reports.page.pictures import Picture, pictures
from harness.reports.page.plots import sweep_plot, timeline_plot
from harness.reports.page.rendering import rendered
from harness.reports.words import LEVELS, counts, figure, gravity, level_of, unrun


@dataclass(frozen=True)
class CaseShown:
    """One case of a violation.

    Attributes:
        which: ``smallest`` or ``worst``.
        figures: the values measured on it, as names and numbers.
        shown: which part of which image the pictures show; empty for the whole of the only one.
    """

    which: str
    words: str
    replay: str | None
    explain: str | None
    figures: tuple[tuple[str, str], ...]
    pictures: tuple[Picture, ...]
    shown: str
    raised: str


@dataclass(frozen=True)
class Violation:
    """One property under one precision, violated.

    Attributes:
        anchor: its id on the page.
        drawing: an SVG: the sweep of a loss, the timeline of a step; ``None`` for none.
        foremost: of its property's violations the gravest, which is shown opened.
    """

    anchor: str
    cell: Mapping[str, Any]
    cases: tuple[CaseShown, ...]
    drawing: Markup | None
    timeline: tuple[Mapping[str, Any], ...]
    ranks: tuple[tuple[Mapping[str, Any], ...], ...]
    advice: tuple[Advice, ...]
    foremost: bool


@dataclass(frozen=True)
class PropertySection:
    """A violated property, with its violations, the gravest first."""

    anchor: str
    name: str
    kind: str
    claim: str
    level: str
    violations: tuple[Violation, ...]


def write_page(path: Path, report: Mapping[str, Any]) -> None:
    """Write the page of a JSON report atomically.

    Raises:
        UsageError: the report's evidence can't be drawn.
        OSError: the file can't be written.
    """
    write_atomically(path, page(report))


def page(report: Mapping[str, Any]) -> str:
    """The page of a run, as :func:`harness.reports.json_report.report` tells it.

    Raises:
        UsageError: the report's evidence can't be drawn.
    """
    try:
        sections = _sections(report["results"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"the report's evidence can't be drawn: {error}.") from error
    return rendered(
        "page.html.j2",
        report=report,
        tables=_tables(report["results"]),
        sections=sections,
        counts=counts(report["results"]),
        examples=sum(cell["examples"] for cell in report["results"]),
        unrun=unrun(report["results"]),
        environment=_flat(report["environment"]),
        anchor=_anchor,
    )


def _anchor(cell: Mapping[str, Any]) -> str:
    return f"{cell['kind']}.{cell['property']}.{cell['precision']}"


def _sections(cells: Sequence[Mapping[str, Any]]) -> list[PropertySection]:
    violated = [cell for cell in cells if cell["status"] == "violated"]
    sections = []
    for kind, name in dict.fromkeys((cell["kind"], cell["property"]) for cell in violated):
        mine = sorted((c for c in violated if (c["kind"], c["property"]) == (kind, name)), key=gravity)
        level = level_of(mine[0])
        found = tuple(_violation(cell, index == 0) for index, cell in enumerate(mine))
        sections.append(PropertySection(f"{kind}.{name}", name, kind, mine[0]["claim"], level, found))
    return sorted(sections, key=lambda section: LEVELS.index(section.level))


def _violation(cell: Mapping[str, Any], foremost: bool) -> Violation:
    evidence = cell["evidence"] or {}
    name = "d" + hashlib.sha256(_anchor(cell).encode()).hexdigest()[:8]
    sweep, timeline = evidence.get("sweep"), evidence.get("timeline")
    drawing = None
    if timeline:
        drawing = Markup(timeline_plot(timeline, name))
    elif sweep and foremost:
        try:
            drawing = Markup(sweep_plot(sweep, cell["precision"], name))
        except ValueError:
            drawing = None  # a loss that is zero, or raises, throughout
    cases = [shown_case(cell, "smallest", cell["case_words"], cell["replay"], evidence)]
    if cell["worst_case"] is not None:
        cases.append(shown_case(cell, "worst", cell["worst_words"], cell["worst_replay"], cell["worst_evidence"] or {}))
    ranks = tuple(tuple(rank) for rank in evidence.get("ranks") or ())
    rows = tuple(timeline or ())
    return Violation(_anchor(cell), cell, tuple(cases), drawing, rows, ranks, tuple(advice(cell)), foremost)


def shown_case(
    cell: Mapping[str, Any], which: str, words: str, replay: str | None, evidence: Mapping[str, Any]
) -> CaseShown:
    """What is to be seen of one case.

    Raises:
        ValueError: one of its arrays is no image.
    """
    explain = None
    if replay and cell["kind"] == "loss" and evidence.get("rounding"):
        explain = replay.replace("harness replay", "harness explain", 1)
    drawn = tuple(pictures(evidence.get("arrays") or {}))
    return CaseShown(
        which, words, replay, explain, tuple(_figures(evidence)), drawn, _part(evidence), evidence.get("raised") or ""
    )


def _figures(evidence: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    told = partial(figure, digits=6)
    if "true value" in evidence:
        if "value" in evidence:
            yield "the loss", told(evidence["value"])
        yield "its float64 value", told(evidence["true value"])
    if "gradient norm" in evidence:
        yield "its gradient's length", told(evidence["gradient norm"])
    if "true gradient norm" in evidence:
        yield "the true gradient's", told(evidence["true gradient norm"])
    if evidence.get("gradient cosine") is not None:
        yield "the cosine between them", told(evidence["gradient cosine"])


def _part(evidence: Mapping[str, Any]) -> str:
    shown, arrays = evidence.get("shown"), evidence.get("arrays") or {}
    if not shown or "mask" not in arrays:
        return ""
    said = [f"image {shown['image'] + 1} of {shown['images']}"] if shown["images"] > 1 else []
    height, width = arrays["mask"]["shape"]
    if (height, width) != (shown["height"], shown["width"]):
        of = f"{shown['height']}×{shown['width']}"
        said.append(f"{height}×{width} pixels of {of}, from row {shown['top']} and column {shown['left']}")
    return ", ".join(said)


def _tables(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each kind of subject its precisions, and rows of a property and its cells, ``None`` for none."""
    tables = []
    for kind in dict.fromkeys(cell["kind"] for cell in cells):
        mine = {(cell["property"], cell["precision"]): cell for cell in cells if cell["kind"] == kind}
        precisions = list(dict.fromkeys(precision for _, precision in mine))
        names = list(dict.fromkeys(name for name, _ in mine))
        rows = [(name, [mine.get((name, precision)) for precision in precisions]) for name in names]
        claims = {name: next(c["claim"] for c in mine.values() if c["property"] == name) for name in names}
        tables.append({"kind": kind, "precisions": precisions, "rows": rows, "claims": claims})
    return tables


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Names and values, a table's as ``table.name``."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{before}{key}.")
        else:
            rows.append((f"{before}{key}".replace("_", " "), "none" if value is None else str(value)))
    return rows
