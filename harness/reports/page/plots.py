"""Drawings of a run, as SVG in the page's own colours: the loss by the size of a perturbation, a step's timeline."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from harness.files import one_line

# Drawn in these, and then told by name, so that a page can be light or dark.
_INK, _FAINT, _BAD, _GOOD, _PAPER = "#010203", "#010204", "#010205", "#010206", "#010207"
_NAMES = {_INK: "--ink", _FAINT: "--line", _BAD: "--fault", _GOOD: "--held", _PAPER: "--card"}
# One for each precision, told apart by marker too; readable on light and dark.
_COLOURS = ("#1b9e77", "#d95f02", "#8884d8", "#e7298a", "#66a61e", "#c99700", "#a6761d", "#5b8db8")
_MARKERS = "osD^PXv*"
# Characters of a name in a drawing.
_LONGEST = 40
_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name with dollars is a name
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _FAINT,
    "axes.facecolor": "none",
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _FAINT,
    "grid.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def sweep_plot(sweep: Mapping[str, Any], own: str, name: str) -> str:
    """The loss against the size of the perturbation, both by orders of magnitude; what is negative has a hollow mark.

    Args:
        sweep: as the evidence of a loss has it.
        own: the precision that the violation is of.
        name: tells the drawing's own ids from those of others on the page.

    Raises:
        ValueError: there is nothing to draw.
    """
    x = [float(magnitude) for magnitude in sweep["magnitudes"]]
    lines = {**sweep["losses"]}
    values = {label: [_float(value) for value in line] for label, line in lines.items()}
    truth = [_float(value) for value in sweep["float64"]]
    sizes = [abs(v) for line in (*values.values(), truth) for v in line if math.isfinite(v) and v != 0]
    if not sizes or any(len(line) != len(x) for line in (*values.values(), truth)):
        raise ValueError("there is nothing to plot")
    floor = 10.0 ** (math.floor(math.log10(min(sizes))) - 1)
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.set(
            xscale="log", yscale="log", xlabel=f"size of the perturbation ({sweep['perturbation']})", ylabel="|loss|"
        )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(_power_of_ten))
            axis.set_minor_formatter(NullFormatter())
        axes.grid(True, which="major")
        axes.plot(x, _sizes(truth, floor), color=_INK, linewidth=2.5, label="float64, the truth", zorder=5)
        for index, (label, line) in enumerate(values.items()):
            _draw_line(axes, x, line, floor, index, label, label == own)
        if sweep.get("own"):
            axes.axvline(float(sweep["own"]), color=_BAD, linestyle=":", linewidth=1.2)
        axes.set_ylim(bottom=floor / 2)
        handles, labels = axes.get_legend_handles_labels()
        negative = Line2D([], [], color=_INK, marker="o", markerfacecolor=_PAPER, linestyle="none")
        figure.legend(
            [*handles, negative], [*labels, "below zero"], loc="outside right upper", fontsize=8, labelcolor=_INK
        )
        return _svg(figure, name)


def _power_of_ten(value: float, _: object) -> str:
    return "10" + f"{round(math.log10(value))}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _draw_line(
    axes: Axes, x: Sequence[float], line: Sequence[float], floor: float, index: int, label: str, own: bool
) -> None:
    colour, marker = _COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)]
    sizes = _sizes(line, floor)
    width = 2.0 if own else 0.9
    axes.plot(x, sizes, color=colour, linewidth=width, marker=marker, markersize=4, label=label)
    below = [i for i, value in enumerate(line) if value < 0]
    faces: Any = {"color": colour, "marker": marker, "markersize": 5, "markerfacecolor": _PAPER, "linestyle": "none"}
    axes.plot([x[i] for i in below], [sizes[i] for i in below], **faces, zorder=6)


def _sizes(line: Sequence[float], floor: float) -> list[float]:
    """Absolute values; 0 on the floor, and a gap for what is no number."""
    return [max(abs(value), floor) if math.isfinite(value) else math.nan for value in line]


def timeline_plot(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """A step's program from left to right: each action with loss, norm, scale and rate, and whether parameters moved.

    Raises:
        ValueError: there is nothing to draw.
    """
    if not rows:
        raise ValueError("there is nothing to plot")
    lanes = (("loss", "loss"), ("gradient norm", "gradient norm"), ("scale", "scale"), ("learning rate", "rate"))
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(max(4.2, 1.6 + 1.5 * len(rows)), 3.5), layout="constrained")
        axes = figure.subplots(len(lanes) + 1, 1, sharex=True, height_ratios=[1] * len(lanes) + [0.9])
        for ax, (key, label) in zip(axes, lanes, strict=False):
            _lane(ax, [_float(row.get(key)) for row in rows], label)
        _moved_lane(axes[-1], rows)
        axes[-1].set_xlim(-0.6, len(rows) - 0.4)
        axes[-1].set_xticks(range(len(rows)), [_label(i, row) for i, row in enumerate(rows)])
        return _svg(figure, name)


def _label(index: int, row: Mapping[str, Any]) -> str:
    return f"{index + 1}. {one_line(str(row.get('action')), _LONGEST)}"


def _lane(ax: Axes, values: Sequence[float], label: str) -> None:
    ax.set_ylabel(label, rotation=0, ha="right", va="center")
    finite = [value for value in values if math.isfinite(value)]
    ax.yaxis.set_major_locator(MaxNLocator(2))
    ax.set_yticklabels([])
    ax.tick_params(length=0)
    ax.spines["left"].set_visible(False)
    ax.plot(range(len(values)), values, color=_INK, marker="o", linewidth=1.2, markersize=5)
    middle = sum(finite) / len(finite) if finite else 0.0
    reach = max([abs(value - middle) for value in finite], default=0.0) or abs(middle) or 1.0
    ax.set_ylim(middle - 2.2 * reach, middle + 2.6 * reach)
    for index, value in enumerate(values):
        if math.isfinite(value):
            ax.annotate(f"{value:.4g}", (index, value), xytext=(0, 6), textcoords="offset points", ha="center")
        else:
            said = "none" if math.isnan(value) and label == "gradient norm" else f"{value:g}"
            colour = _INK if said == "none" else _BAD
            ax.annotate(said, (index, middle), ha="center", va="center", color=colour, weight="bold")


def _moved_lane(ax: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    ax.set_ylabel("parameters", rotation=0, ha="right", va="center")
    ax.set_ylim(-0.6, 1.2)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.tick_params(length=0)
    for index, row in enumerate(rows):
        moved, should = bool(row.get("moved")), bool(row.get("should step"))
        right = moved == should and not row.get("raised")
        said = f"raised {one_line(str(row['raised']), _LONGEST)}" if row.get("raised") else "moved" if moved else "kept"
        if moved != should:
            said += "\nshould move" if should else "\nmust not move"
        ax.plot([index], [0.75], marker="s" if moved else "_", markersize=10, color=_GOOD if right else _BAD)
        ax.annotate(said, (index, 0.2), ha="center", va="top", fontsize=8, color=_INK if right else _BAD)


def _svg(figure: Figure, name: str) -> str:
    """The SVG element, its ids made its own and its colours the page's."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(href="#|url\(#)([^")]+)', rf"\1{name}-\2", text)
    for colour, variable in _NAMES.items():
        text = text.replace(colour, f"var({variable})")
    # As wide as there is room for, up to its own width; where there is less than this, it scrolls.
    width = f"{figure.get_figwidth() * 72:.0f}pt"
    style = f'style="max-width: {width}; min-width: min({width}, 26rem)"'
    return re.sub(r'<svg[^>]*? (viewBox="[^"]*")[^>]*>', rf"<svg \1 {style} aria-hidden=\"true\">", text, count=1)


def _float(value: Any) -> float:
    """A number, or the text that JSON has for what is none; NaN for nothing."""
    return math.nan if value is None else float(value)
