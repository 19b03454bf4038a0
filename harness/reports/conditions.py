"""A sweep of conditions as text, as a table of numbers (CSV) and as heat maps (PNG)."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.table import Table

from harness.conditions.findings import Condition, Measure, PrecisionSummary, conditions, measured, showing, summaries
from harness.conditions.sweep import OWN_MASK, Sweep, Tally
from harness.files import move_into_place, write_atomically
from harness.reports.console import ReportConsole

# Distances out of the range are drawn on a logarithmic scale from here up.
_LEAST_DISTANCE = 1e-7
_HEADINGS = ("precision", "cases", "out of range", "beyond rounding", "by up to", "wrong", "error up to", "else")


def show_conditions(sweep: Sweep, console: ReportConsole) -> None:
    """Print how often each precision leaves range and budget, and which conditions that follows."""
    subject = sweep.subject
    console.plain(f"loss {subject.name.spec}, held to {subject.definition.name} ({subject.definition.formula})")
    table = Table(pad_edge=False)
    for heading in (
        "precision",
        "cases",
        "out of range",
        "beyond rounding",
        "by up to",
        "wrong",
        "error up to",
        "else",
    ):
        table.add_column(heading)
    found = summaries(sweep)
    for summary in found:
        table.add_row(
            summary.precision,
            str(summary.cases),
            *(_percent(count, summary.cases) for count in (summary.outside, summary.far_outside)),
            f"{summary.farthest:.3g}",
            _percent(summary.wrong, summary.cases),
            f"{summary.largest_error:.3g}",
            _else(summary),
        )
    console.print(table)
    for line in _sentences(sweep, found):
        console.plain(line)
    for title, precisions in _groups(showing(sweep)):
        told = Table(title, "", "where it is met", "where not", pad_edge=False)
        for condition in conditions(sweep, precisions):
            if condition.shows is not None:
                told.add_row(condition.claim, condition.shows.value, *_sides(condition))
        console.print(told)


def _groups(precisions: Sequence[str]) -> list[tuple[str, Sequence[str]]]:
    """Each precision by itself, and where there are several, all of them together first."""
    together = [("under all of these", precisions)] if len(precisions) > 1 else []
    return [*together, *((f"under {name}", (name,)) for name in precisions)]


def _sides(condition: Condition) -> tuple[str, str]:
    met, unmet = condition.shares
    return f"{met} ({condition.met})", f"{unmet} ({condition.unmet})"


def _percent(count: int, cases: int) -> str:
    return f"{100 * count / cases:.1f} %" if count else "none"


def _else(summary: PrecisionSummary) -> str:
    parts = [(summary.not_finite, "NaN or inf"), (summary.raised, "raised")]
    return ", ".join(f"{count} {what}" for count, what in parts if count)


def _sentences(sweep: Sweep, found: list[PrecisionSummary]) -> Iterator[str]:
    if sweep.first_exception:
        yield f"It raised, first: {sweep.first_exception}"
    measure = measured(sweep)
    counts = {s.precision: s.far_outside if measure is Measure.OUTSIDE else s.wrong for s in found}
    clean = [name for name, count in counts.items() if not count]
    what = "out of its range" if measure is Measure.OUTSIDE else "wrong"
    if len(clean) == len(found):
        yield "Under no precision is the loss out of its range, or wrong, by more than rounding: there is no condition."
        return
    yield f"By more than rounding {what} under {', '.join(name for name in counts if counts[name])}."
    if clean:
        yield f"Never so under {', '.join(clean)}."
    if "float32" in clean:
        yield "So float32 is not the cause."


def write_csv(path: Path, sweep: Sweep) -> None:
    """A row for each precision and place of the grid; the columns are the fields of ``Tally``. Written atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(Tally)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(tally) for tally in sweep.tallies)
    write_atomically(path, text.getvalue())


def draw_conditions(path: Path, sweep: Sweep) -> None:
    """Heat maps, foreground by perturbation, a column for each precision: how often the loss is out of its range, how
    often it is wrong (both beyond rounding), how far it went out. Sizes are taken together. Written atomically.
    """
    precisions = [summary.precision for summary in summaries(sweep)]
    figure = Figure(figsize=(2.6 + 2.1 * len(precisions), 8.0), layout="constrained")
    axes = figure.subplots(3, len(precisions), squeeze=False, sharex=True, sharey=True)
    farthest = max(*(tally.farthest for tally in sweep.tallies), 10 * _LEAST_DISTANCE)
    rows: tuple[tuple[str, Callable[[Sequence[Tally]], float], str, tuple[float, float]], ...] = (
        ("out of range [% of cases]", _percentage("far_outside"), "magma", (0.0, 100.0)),
        ("wrong [% of cases]", _percentage("wrong"), "magma", (0.0, 100.0)),
        ("out of range by up to", _decade, "viridis", (math.log10(_LEAST_DISTANCE), math.log10(farthest))),
    )
    for row, (label, of, colours, (low, high)) in enumerate(rows):
        for column, precision in enumerate(precisions):
            values = _map(sweep, precision, of)
            image = axes[row, column].imshow(values, origin="lower", vmin=low, vmax=high, cmap=colours, aspect="auto")
            _label(axes[row, column], sweep)
            if row == 0:
                axes[row, column].set_title(precision.replace("-", "\n", 1), fontsize=9)
        bar = figure.colorbar(image, ax=axes[row, :], label=label, aspect=12)
        if of is _decade:
            bar.ax.yaxis.set_major_formatter(lambda value, _: f"1e{value:.0f}" if value == round(value) else "")
    for axis in axes[-1]:
        axis.set_xlabel("perturbation", fontsize=8)
    for axis in axes[:, 0]:
        axis.set_ylabel("foreground", fontsize=8)
    figure.suptitle(f"{sweep.subject.name.spec}, sides of {', '.join(str(size) for size in sweep.grid.sizes)} px")
    with move_into_place(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _map(sweep: Sweep, precision: str, of: Callable[[Sequence[Tally]], float]) -> NDArray[np.float64]:
    """A number for each share (a row) and magnitude (a column), all sizes together."""
    mine = [tally for tally in sweep.tallies if tally.precision == precision]
    return np.array(
        [
            [
                of([t for t in mine if (t.share, t.magnitude) == (share, magnitude)])
                for magnitude in sweep.grid.magnitudes
            ]
            for share in sweep.grid.shares
        ]
    )


def _percentage(name: str) -> Callable[[Sequence[Tally]], float]:
    def of(tallies: Sequence[Tally]) -> float:
        return 100.0 * sum(getattr(t, name) for t in tallies) / sum(t.cases for t in tallies)

    return of


def _decade(tallies: Sequence[Tally]) -> float:
    return math.log10(max(max(t.farthest for t in tallies), _LEAST_DISTANCE))


def _label(axis: Axes, sweep: Sweep) -> None:
    axis.set_xticks(range(len(sweep.grid.magnitudes)), [f"{m:.0e}" for m in sweep.grid.magnitudes], rotation=60)
    axis.set_yticks(range(len(sweep.grid.shares)), [_share_words(share) for share in sweep.grid.shares])
    axis.tick_params(labelsize=7)


def _share_words(share: float) -> str:
    return "own mask" if share == OWN_MASK else f"{100 * share:.3g} %"
