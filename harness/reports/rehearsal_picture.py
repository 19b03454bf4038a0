"""A rehearsal drawn, window by window: losses, norms, scale, rate, what moved, and where the faults were put in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.files import move_into_place
from harness.rehearsal.record import Did, Window
from harness.rehearsal.rehearsal import Rehearsal

_FAULT, _KEPT, _MOVED, _LINE = "#c8553d", "#c8553d", "#2d7d46", "#1f4e79"


def draw_rehearsal(path: Path, rehearsal: Rehearsal) -> None:
    """Write the picture as PNG, atomically; the script's runs stand side by side, a line between them."""
    figure = rehearsal_figure(rehearsal)
    with move_into_place(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def rehearsal_figure(rehearsal: Rehearsal) -> Figure:
    """The picture, that of a resume at its end; NaN and inf are crosses at the upper edge."""
    named = [(run, "") for run in rehearsal.runs]
    resumption = rehearsal.resumption
    if resumption is not None and resumption.resumed is not None:
        named += [(resumption.killed, "killed at its end"), (resumption.resumed, "started again")]
    windows = [window for run, _ in named for window in run.windows]
    figure = Figure(figsize=(max(8.0, 2.0 + 0.16 * len(windows)), 7.0), layout="constrained")
    axes = figure.subplots(5, 1, sharex=True, height_ratios=[2, 2, 1.5, 1.5, 0.8])
    _draw(axes[0], "loss", [_last(window.losses) for window in windows], log=True)
    _draw(axes[1], "gradients' norm", [_norm(window) for window in windows], log=True)
    _draw(axes[2], "scale", [window.scale for window in windows], log=True)
    _draw(axes[3], "learning rate", [window.rates[0][0] if window.rates else None for window in windows])
    for index, window in enumerate(windows):
        for optimizer, moved in enumerate(window.moved):
            axes[4].plot([index], [-optimizer], marker="s" if moved else "x", color=_MOVED if moved else _KEPT)
    axes[4].set_yticks([])
    axes[4].set_ylabel("moved", rotation=0, ha="right", va="center")
    axes[4].margins(y=0.8)
    axes[4].set_xlabel("window")
    begins = [sum(len(run.windows) for run, _ in named[:n]) for n in range(len(named))]
    for axis in axes:
        for index, window in enumerate(windows):
            if window.fault and not window.refused:
                axis.axvspan(index - 0.5, index + 0.5, color=_FAULT, alpha=0.15, linewidth=0)
        for begin in begins[1:]:
            axis.axvline(begin - 0.5, color="black", linewidth=0.8)
        axis.grid(True, axis="y", linewidth=0.4)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlim(-0.5, len(windows) - 0.5)
    top = axes[0].secondary_xaxis("top")
    marked = [(i, window.fault) for i, window in enumerate(windows) if window.fault and not window.refused]
    marked += [(begin, name) for begin, (_, name) in zip(begins, named, strict=True) if name]
    top.set_xticks([i for i, _ in marked], [fault for _, fault in marked], rotation=60, ha="left", fontsize=8)
    return figure


def _draw(axis: Axes, label: str, values: Sequence[float | None], log: bool = False) -> None:
    axis.set_ylabel(label, rotation=0, ha="right", va="center")
    finite = [value if value is not None and math.isfinite(value) else math.nan for value in values]
    axis.plot(range(len(values)), finite, color=_LINE, marker=".", linewidth=1.0)
    known = [value for value in finite if value > 0]
    if log and known and max(known) > 10 * min(known):
        axis.set_yscale("log")
    bad = [index for index, value in enumerate(values) if value is not None and not math.isfinite(value)]
    # Across the axis' own height, whatever its values.
    axis.plot(bad, [0.97] * len(bad), "x", color=_FAULT, transform=axis.get_xaxis_transform())


def _last(values: Sequence[float]) -> float | None:
    return next((value for value in values if not math.isfinite(value)), values[-1] if values else None)


def _norm(window: Window) -> float | None:
    found = [c.value for c in window.of(Did.CLIP) if c.value is not None]
    found = found or [c.value for c in window.of(Did.OPTIMIZER_STEP) if c.value is not None]
    return found[-1] if found else None
