"""Times and accuracies of losses as text, as JSON and as a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from rich.table import Table

from harness.bench.contenders import BASELINE
from harness.bench.harness_speed import CommandTime
from harness.bench.timing import Benchmark, Mode, Timing
from harness.files import move_into_place, write_atomically
from harness.reports.console import ReportConsole

_MARKERS = "osD^vPX*"


def show_benchmark(benchmark: Benchmark, console: ReportConsole) -> None:
    """Print a table for each size and mode, then the accuracies and who was left out."""
    console.plain(
        f"{benchmark.device}, {benchmark.threads} threads; medians of {benchmark.rounds} rounds in turns, quartiles in "
        f"brackets, every loss called twice before; × are multiples of {BASELINE}'s time on the same images"
    )
    for size, mode in dict.fromkeys((timing.scene.size, timing.mode) for timing in benchmark.timings):
        console.print(_table(size, mode, [t for t in benchmark.timings if (t.scene.size, t.mode) == (size, mode)]))
    accuracies = Table("loss", "held to", "value off by", "gradient off by", title="Accuracy", pad_edge=False)
    for one in benchmark.accuracies:
        accuracies.add_row(one.name, one.definition, f"{one.value:.1e}", f"{one.gradient:.1e}")
    console.print(accuracies)
    for name, why in benchmark.left_out.items():
        console.plain(f"not timed: {name}: {why}")


def _table(size: str, mode: Mode, timings: Sequence[Timing]) -> Table:
    scenes = list(dict.fromkeys(timing.scene for timing in timings))
    table = Table(title=f"{size}, {mode.value}", pad_edge=False)
    table.add_column("loss")
    for scene in scenes:
        table.add_column(scene.foreground, justify="right")
    for name in dict.fromkeys(timing.name for timing in timings):
        cells = {t.scene: t for t in timings if t.name == name}
        table.add_row(name, *(_cell(cells[scene]) if scene in cells else "" for scene in scenes))
    return table


def _cell(timing: Timing) -> str:
    low, middle, high = (f"{1e3 * value:.3g}" for value in timing.seconds)
    ratio = "" if timing.ratio is None else f"\n×{timing.ratio:.3g}"
    extra = "" if timing.extra_bytes is None else f", {timing.extra_bytes / 2**20:.3g} MiB"
    return f"{middle} ms [{low}, {high}]{ratio}{extra}"


def benchmark_json(benchmark: Benchmark, environment: dict[str, Any]) -> dict[str, Any]:
    """All of it as plain values: seconds and bytes."""
    return {
        "format": "harness-bench/1",
        "environment": environment,
        "device": benchmark.device,
        "threads": benchmark.threads,
        "rounds": benchmark.rounds,
        "baseline": BASELINE,
        "timings": [{**asdict(timing), "mode": timing.mode.value} for timing in benchmark.timings],
        "accuracies": [asdict(one) for one in benchmark.accuracies],
        "left_out": benchmark.left_out,
    }


def write_benchmark_json(path: Path, data: dict[str, Any]) -> None:
    """Write it atomically."""
    write_atomically(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def draw_benchmark(path: Path, benchmark: Benchmark) -> None:
    """Draw times against the foreground's share, a panel for each size, forward and backward."""
    timings = [t for t in benchmark.timings if t.mode is Mode.BOTH and t.scene.islands == 1] or benchmark.timings
    sizes = list(dict.fromkeys(timing.scene.size for timing in timings))
    figure = Figure(figsize=(max(4.2 * len(sizes), 7.0), 4.8), layout="constrained")
    names = list(dict.fromkeys(timing.name for timing in timings))
    for place, size in enumerate(sizes, start=1):
        axes = figure.add_subplot(1, len(sizes), place)
        for index, name in enumerate(names):
            own = [t for t in timings if t.name == name and t.scene.size == size]
            shares = [100 * t.scene.share for t in own]
            middles = [1e3 * t.seconds[1] for t in own]
            spread = [
                [m - 1e3 * t.seconds[0] for t, m in zip(own, middles, strict=True)],
                [1e3 * t.seconds[2] - m for t, m in zip(own, middles, strict=True)],
            ]
            axes.errorbar(shares, middles, yerr=spread, marker=_MARKERS[index % len(_MARKERS)], label=name, capsize=2)
        axes.set(xscale="log", yscale="log", title=size, xlabel="foreground (% of the pixels)")
        axes.grid(True, which="both", alpha=0.3)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(_plainly))
            # Where there are few powers of ten to tell, what lies between is told too.
            axis.set_minor_formatter(FuncFormatter(_plainly) if _decades(axis) < 1.6 else NullFormatter())
    figure.axes[0].set_ylabel("time of a call (ms)")
    figure.suptitle(f"{timings[0].mode.value}, {benchmark.device}, {benchmark.threads} threads")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    with move_into_place(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _plainly(value: float, _: object) -> str:
    return f"{value:g}"


def _decades(axis: Any) -> float:
    low, high = axis.get_view_interval()
    return math.log10(high / low)


def show_harness_speed(times: Sequence[CommandTime], console: ReportConsole) -> None:
    """Print the commands' times."""
    table = Table("what", "median", "runs", "command", pad_edge=False)
    for one in times:
        runs = ", ".join(f"{seconds:.1f}" for seconds in one.seconds)
        table.add_row(one.command.name, f"{one.median:.1f} s", runs, f"harness {' '.join(one.command.arguments)}")
    console.print(table)


def harness_speed_json(times: Sequence[CommandTime], environment: dict[str, Any]) -> dict[str, Any]:
    """The commands' times as plain values, in seconds."""
    return {
        "format": "harness-bench-harness/1",
        "environment": environment,
        "commands": [
            {"name": t.command.name, "arguments": list(t.command.arguments), "seconds": list(t.seconds)} for t in times
        ],
    }
