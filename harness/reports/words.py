"""What reports say alike of a run, from what JSON has of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LEVELS = ("fault", "definition", "rounding", "strictness")
"""From the gravest on."""
STATUSES = ("held", "not applicable", "not run")
"""Of what isn't violated."""
MOST_LAST_WORDS = 5
"""Lines that a subject printed last that are shown."""


def level_of(cell: Mapping[str, Any]) -> str:
    """Of a violated cell; one that isn't known is a fault."""
    return cell["level"] or "fault"


def counts(cells: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, str]]:
    """Each level and status that there is, with how many cells have it, and the same in words."""
    violated = [level_of(cell) for cell in cells if cell["status"] == "violated"]
    numbers = [(level, violated.count(level)) for level in LEVELS]
    numbers += [(status, sum(cell["status"] == status for cell in cells)) for status in STATUSES]
    return [(name, number, f"{number} {_words(name, number)}") for name, number in numbers if number]


def _words(name: str, number: int) -> str:
    if name == "fault":
        return "fault" if number == 1 else "faults"
    return f"of {name}" if name in LEVELS else name


def gravity(cell: Mapping[str, Any]) -> tuple[int, float]:
    """Sorts violated cells, the gravest first."""
    return LEVELS.index(level_of(cell)), -float(cell["badness"])


def foremost(cells: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of each violated property the gravest cell, the gravest of all first."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for cell in sorted((cell for cell in cells if cell["status"] == "violated"), key=gravity):
        found.setdefault((cell["kind"], cell["property"]), cell)
    return list(found.values())


def unrun(cells: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Which cells weren't run to their end, and why; each reason once."""
    found: dict[str, list[str]] = {}
    for cell in cells:
        if cell["status"] == "not run" or cell["cut_short"]:
            found.setdefault(cell["message"], []).append(f"{cell['property']} under {cell['precision']}")
    return [(names[0] + (f" and {len(names) - 1} more" if names[1:] else ""), why) for why, names in found.items()]


def violation_lines(cell: Mapping[str, Any]) -> list[str]:
    """A violated cell in words."""
    worst = cell["worst_case"] is not None
    earlier = cell["earlier_calls"]
    regressions: list[str] = []
    for one in cell["broken_regressions"]:
        regressions += [f"regression ({one['level']}): {one['message']}", f"replay: {one['replay']}"]
    return [
        cell["message"],
        *([f"baseline: {_against(cell)}"] if cell["accepted"] else []),
        *regressions,
        f"claim: {cell['claim']}",
        *([f"worst case: {cell['worst_words']}", f"replay: {cell['worst_replay']}"] if worst else []),
        f"smallest case: {cell['case_words']}",
        *([f"after {earlier} other calls, which the case file holds"] if earlier else []),
        *([f"printed last: {line}" for line in cell["last_words"].splitlines()[-MOST_LAST_WORDS:]]),
        f"replay: {cell['replay']}",
    ]


def _against(cell: Mapping[str, Any]) -> str:
    accepted = cell["accepted"]
    was = f"a violation of level {accepted['level']} and badness {float(accepted['badness']):.3g}"
    return {
        "worse": f"more than is accepted, which is {was}: {accepted['because']}",
        "expired": f"the date has passed: {accepted['because']}",
    }.get(cell["standing"], f"accepted: {accepted['because']}")


def warnings_heading(warnings: Sequence[Mapping[str, Any]]) -> str:
    """How many warnings the subject raised, of those that are told apart."""
    return f"{len(warnings)} {'warning' if len(warnings) == 1 else 'warnings'} of the subject"


def warning_line(warning: Mapping[str, Any]) -> str:
    """One of them, with how many times it was raised and where."""
    times = "once" if warning["times"] == 1 else f"{warning['times']} times"
    where = f", {warning['where']}" if warning["where"] else ""
    return f"{warning['category']}: {warning['message']} ({times}{where})"


def figure(value: Any, digits: int = 3) -> str:
    """A number, or the text that JSON has for one, with a few significant digits; nothing for none."""
    return "" if value is None else f"{float(value):.{digits}g}".replace("-", "−")
