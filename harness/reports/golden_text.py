"""What became of goldens, in words and as JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from harness.goldens.deviation import TRUTH, Deviation
from harness.goldens.outcome import Outcome, Status
from harness.numerals import shares_told_apart, told_apart
from harness.reports.golden_model import GoldenModel

SCHEMA = "harness-golden-report/1"
_BAR = 20


def deviation_line(found: Deviation) -> str:
    """Which term moved, by how much, in which direction."""
    against = "the truth" if found.layer == TRUTH else "what is recorded"
    return f"{found.golden} [{found.precision}] {found.term}: {moved(found, against)}"


def moved(found: Deviation, against: str) -> str:
    """How far the term moved, and in which direction, from what ``against`` names."""
    if found.direction == "changed":
        return f"{found.then!r} has become {found.now!r} ({against} has no tolerance here)"
    assert isinstance(found.then, float)
    assert isinstance(found.now, float)
    if found.cosine is not None:
        then, now = told_apart(found.then, found.now, 6)
        how = f"norm {then} → {now}, off by {found.relative:.2g} of it, cosine {found.cosine:.6f}"
    else:
        then, now = told_apart(found.then, found.now, 8)
        how = f"{then} → {now}, {found.direction} by {found.error:.2g} ({_size(found)})"
    return f"{how}; {_times(found.used)} its tolerance against {against}"


def outcome_lines(outcome: Outcome) -> list[str]:
    """The outcome's sentence, and under it the terms beyond their tolerance, worst first."""
    place = f"{outcome.golden} [{outcome.precision}]" if outcome.precision else outcome.golden
    failed = sorted((d for d in outcome.deviations if not d.within), key=lambda d: -d.used)
    return [f"{outcome.status.value.upper()} {place}: {outcome.reason}", *(f"    {deviation_line(d)}" for d in failed)]


def summary(outcomes: Sequence[Outcome]) -> str:
    """One line of counts, with the reasons why some were skipped."""
    counts = Counter(outcome.status for outcome in outcomes)
    others = [f"{counts[s]} {s.value}" for s in Status if counts[s] and s not in (Status.PASSED, Status.SKIPPED)]
    parts = [f"{counts[Status.PASSED]} passed", *others]
    if counts[Status.SKIPPED]:
        parts.append(f"{counts[Status.SKIPPED]} skipped")
    reasons = Counter(outcome.reason for outcome in outcomes if outcome.status is Status.SKIPPED)
    why = "".join(f" ({count} for: {reason})" for reason, count in reasons.most_common())
    return f"goldens: {', '.join(parts)}{why}"


def moved_lines(outcomes: Iterable[Outcome]) -> list[str]:
    """Every term that differs at all, what used most of its tolerance first."""
    found = [d for outcome in outcomes for d in outcome.deviations if d.layer != TRUTH and d.error > 0]
    return [deviation_line(d) for d in sorted(found, key=lambda d: -d.used)]


def drift_lines(outcomes: Iterable[Outcome], most: int) -> list[str]:
    """How much of its tolerance each value uses, the ``most`` that use the most first."""
    found = sorted((d for outcome in outcomes for d in outcome.deviations), key=lambda d: -d.used)
    return [
        f"{d.used:8.2%} {'#' * round(_BAR * min(d.used, 1.0)):<{_BAR}} {d.layer:8} {d.golden} [{d.precision}] {d.term}"
        for d in found[:most]
    ]


def report(model: GoldenModel) -> dict[str, Any]:
    """All that was checked as plain values."""
    return {
        "schema": SCHEMA,
        "environment": dict(model.environment),
        "counts": Counter(outcome.status.value for outcome in model.outcomes),
        "outcomes": [
            {
                "golden": outcome.golden,
                "precision": outcome.precision,
                "status": outcome.status.value,
                "reason": outcome.reason,
                "terms": [d.as_json() for d in outcome.deviations],
            }
            for outcome in model.outcomes
        ],
    }


def update_lines(model: GoldenModel) -> list[str]:
    """What was recorded and removed, or what the truth refused."""
    if model.refused:
        refused = [line for outcome in model.refused for line in outcome_lines(outcome)]
        return [*refused, "nothing was recorded: a golden may not lie outside the truth's budget"]
    lines = [f"recorded {name}" for name in model.written] + [f"removed {name}" for name in model.removed]
    return [*lines, f"goldens: {len(model.written)} recorded, {len(model.removed)} removed"]


def _size(found: Deviation) -> str:
    ulps = f"{found.ulps:.3g} ulps"
    return f"{found.relative:.2g} of it, {ulps}" if math.isfinite(found.relative) else ulps


def _times(used: float) -> str:
    if not math.isfinite(used):
        return "beyond"
    return f"{shares_told_apart(used, 1.0)[0]} of" if used <= 1 else f"{told_apart(used, 1.0)[0]} times"
