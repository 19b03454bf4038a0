"""The page of what was found: counts by module, and each survivor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.mutation.records import Key, key_of

Record = Mapping[str, Any]


def rendered(records: Sequence[Record], totals: Mapping[str, int], equivalent: Mapping[Key, str]) -> str:
    """Markdown.

    Args:
        records: of the mutants that were judged.
        totals: in how many places the operators change each module.
        equivalent: the reasons of those that survive rightly.
    """
    rows = ["| module | places | judged | killed | timeout | equivalent | survived | killed of the rest |"]
    rows.append("|---|---:|---:|---:|---:|---:|---:|---:|")
    for file in totals:
        of_file = [one for one in records if one["file"] == file]
        if of_file:
            rows.append(_row(f"`{file}`", totals[file], of_file, equivalent))
    rows.append(_row("all", sum(totals.values()), records, equivalent))
    survivors = sorted(
        (one for one in records if one["outcome"] == "survived"), key=lambda one: (one["file"], one["line"])
    )
    open_, excused = [], []
    for one in survivors:
        reason = equivalent.get(key_of(one))
        (open_ if reason is None else excused).append(_item(one, reason))
    parts = ["\n".join(rows), "## Survivors", "\n".join(open_) or "None."]
    parts += ["## Equivalent", "\n".join(excused) or "None."]
    return "\n\n".join(parts) + "\n"


def score(records: Iterable[Record], equivalent: Mapping[Key, str]) -> tuple[int, int]:
    """How many were killed, and of how many that aren't equivalent."""
    counted = [one for one in records if one["outcome"] != "survived" or key_of(one) not in equivalent]
    return sum(one["outcome"] != "survived" for one in counted), len(counted)


def _row(name: str, total: int, records: Sequence[Record], equivalent: Mapping[Key, str]) -> str:
    outcomes = [one["outcome"] for one in records]
    killed, counted = score(records, equivalent)
    survived = counted - killed
    share = f"{100 * killed / counted:.1f} %" if counted else "–"
    cells = [total, len(records), outcomes.count("killed"), outcomes.count("timeout")]
    cells += [outcomes.count("survived") - survived, survived]
    return f"| {name} | {' | '.join(str(cell) for cell in cells)} | {share} |"


def _item(one: Record, reason: str | None) -> str:
    change = f"{_code(one['removed'])} → {_code(one['added'])}"
    said = f" {reason}" if reason else ""
    return f"- `{one['file']}:{one['line']}`, {_code(one['function'])}: {change}.{said}"


def _code(text: str) -> str:
    text = " ⏎ ".join(text.splitlines()) or "(nothing)"
    return f"`` {text} ``" if "`" in text else f"`{text}`"
