"""A run as GitHub-flavoured Markdown: a verdict, one table, and each violated property's gravest violation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.files import one_line, write_atomically
from harness.reports.words import counts, figure, foremost, level_of, unrun

_VERDICTS = {"held": "✅ held", "violated": "❌ violated", "incomplete": "⚠️ incomplete"}
_CELLS = {"held": "held", "not applicable": "n/a", "not run": "not run"}


def write_markdown(path: Path, report: Mapping[str, Any]) -> None:
    """Write the :func:`summary` atomically."""
    write_atomically(path, summary(report))


def append_markdown(path: Path, report: Mapping[str, Any]) -> None:
    """Add the :func:`summary` to a file that others write into too."""
    with path.open("a", encoding="utf-8") as file:
        file.write(summary(report))


def summary(report: Mapping[str, Any]) -> str:
    """The whole of it. What the subject says stands as text, whatever it is."""
    cells, subject = report["results"], report["subject"]
    names = [f"{kind} {_code(subject[kind])}" for kind in ("loss", "step") if subject[kind]]
    lines = [f"### {_VERDICTS[report['verdict']]}: {' and '.join(names)}", ""]
    told = ", ".join(words for _, _, words in counts(cells))
    lines += [f"{told}; {sum(cell['examples'] for cell in cells)} cases, seed {report['seed']}.", ""]
    if subject["held_to_words"]:
        lines += [escaped(subject["held_to_words"]), ""]
    for kind in dict.fromkeys(cell["kind"] for cell in cells):
        lines += [*_table([cell for cell in cells if cell["kind"] == kind]), ""]
    for cell in foremost(cells):
        lines += _violation(cell)
    lines += [f"- not run: {escaped(what)}: {escaped(why)}" for what, why in unrun(cells)]
    return "\n".join([*lines, ""])


def _table(cells: list[Mapping[str, Any]]) -> list[str]:
    precisions = list(dict.fromkeys(cell["precision"] for cell in cells))
    found = {(cell["property"], cell["precision"]): cell for cell in cells}
    lines = [f"| property | {' | '.join(precisions)} |", "|---" * (len(precisions) + 1) + "|"]
    for name in dict.fromkeys(cell["property"] for cell in cells):
        row = [_cell(found[name, p]) if (name, p) in found else "" for p in precisions]
        lines.append(f"| {name} | {' | '.join(row)} |")
    return lines


def _cell(cell: Mapping[str, Any]) -> str:
    violated = cell["status"] == "violated"
    word = level_of(cell) if violated else _CELLS[cell["status"]]
    return f"{f'**{word}**' if violated and cell['counts'] else word} {figure(cell['worst'])}".strip()


def _violation(cell: Mapping[str, Any]) -> list[str]:
    lines = [
        f"- **{level_of(cell)}** `{cell['property']}` under `{cell['precision']}`: {escaped(cell['message'])}",
        f"  - claim: {escaped(cell['claim'])}",
        f"  - smallest case: {escaped(cell['case_words'])}",
    ]
    return [*lines, f"  - {_code(cell['replay'])}"] if cell["replay"] else lines


def escaped(text: str) -> str:
    """On one line, with all that Markdown or HTML would read something into escaped."""
    plain = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~@$])", r"\\\1", plain)


def _code(text: str) -> str:
    """As code, with a fence longer than any run of backticks in it."""
    plain = one_line(text)
    fence = "`" * (max((len(run) for run in re.findall("`+", plain)), default=0) + 1)
    space = " " if "`" in plain else ""
    return f"{fence}{space}{plain}{space}{fence}"
