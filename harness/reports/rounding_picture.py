"""A trace as a picture: the images that went in, and next to them where each op that stands out is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from harness.rounding.op_trace import OpRecord, Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_MAPS = 6
# With more columns, what is told at the top fits on one line.
_WIDE = 3


@dataclass(frozen=True)
class _Panel:
    """One picture: numbers (h, w), or (h, w, 3) of colours, with the ends of their scale."""

    title: str
    numbers: Any
    low: float
    high: float
    colour_map: str


def plot_trace(trace: Trace, images: Mapping[str, Any]) -> Figure:
    """Images on the first row, error maps on the second, each on its own scale, which stands with it.

    The maps are those of the ops that stand out (first excess, cancellations, mismatches) and of the last op
    that has one; where there are more than six, the first five and the last. What is one number everywhere has no
    panel: it is told in words at the top; a map without any error is left out.

    Args:
        trace: recorded with ``maps=True``.
        images: title -> array or tensor of shape (h, w), (h, w, 3) or (3, h, w), of any range. One with negative
            numbers is drawn as a difference, in the channel that has the largest.

    Returns:
        A matplotlib figure that belongs to no window: save it with ``figure.savefig(path)``.

    Raises:
        ValueError: there is nothing to be seen, or an image has another shape.
    """
    from matplotlib.figure import Figure  # here, so that a trace needs no matplotlib

    panels = [_image_panel(title, image) for title, image in images.items()]
    seen = [panel for panel in panels if panel.low < panel.high]
    maps = [_map_panel(record) for record in _standing_out(trace)]
    if not seen and not maps:
        raise ValueError("no op of the loss made an image that is off anywhere, and its images are of one number each")
    rows = [row for row in (seen, maps) if row]
    columns = max(map(len, rows))
    figure = Figure(figsize=(max(5.0, 2.8 * columns), 0.5 + 2.9 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for row, panels_of_row in zip(axes, rows, strict=True):
        for ax, panel in zip(row, panels_of_row, strict=False):
            _draw(figure, ax, panel)
    told = [f"{panel.title}: {panel.low:.3g} everywhere" for panel in panels if panel.low == panel.high]
    told += ["error maps: of several channels the mean"] if maps else []
    figure.suptitle(("; " if columns > _WIDE else "\n").join(told), fontsize=9)
    return figure


def _draw(figure: Figure, ax: Axes, panel: _Panel) -> None:
    # A frame, so that white on white has an end.
    ax.set_axis_on()
    ax.set(xticks=[], yticks=[])
    if panel.numbers.ndim == 3:
        ax.imshow((panel.numbers - panel.low) / (panel.high - panel.low), interpolation="nearest")
        ax.set_xlabel(f"{panel.low:.3g} … {panel.high:.3g}", fontsize=8)
    else:
        scale: Any = {"cmap": panel.colour_map, "vmin": panel.low, "vmax": panel.high}
        drawn = ax.imshow(panel.numbers, **scale, interpolation="nearest")
        ends = figure.colorbar(drawn, ax=ax, shrink=0.7, ticks=[panel.low, panel.high])
        ends.ax.set_yticklabels([f"{panel.low:.3g}", f"{panel.high:.3g}"], fontsize=7)
    ax.set_title(panel.title, fontsize=8)


def _map_panel(record: OpRecord) -> _Panel:
    assert record.error_map is not None
    numbers = record.error_map.numpy()
    # Where it is no number, nothing is drawn.
    finite = numbers[np.isfinite(numbers)]
    return _Panel(_title(record), numbers, 0.0, float(finite.max()) if finite.size else 1.0, "magma")


def _image_panel(title: str, image: Any) -> _Panel:
    x = _as_picture(title, image)
    finite = x[np.isfinite(x)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if low >= 0:
        return _Panel(title, x, low, high, "gray")
    if x.ndim == 3:
        x = x[..., int(np.abs(np.nan_to_num(x)).max((0, 1)).argmax())]
    reach = max(-low, high)
    return _Panel(title, x, -reach, reach, "RdBu_r") if low < high else _Panel(title, x, low, high, "RdBu_r")


def _standing_out(trace: Trace) -> list[OpRecord]:
    with_maps = [r for r in trace.records if _is_seen(r)]
    first = trace.first_excess
    indices = {r.index for r in trace.cancellations} | {i for m in trace.mismatches for i in m.ops}
    indices |= set() if first is None else {first.index}
    found = [r for r in with_maps if r.index in indices][: _MOST_MAPS - 1]
    return [*found, *(r for r in with_maps[-1:] if r not in found)]


def _is_seen(r: OpRecord) -> bool:
    """Whether its error map is an image, and shows an error anywhere."""
    if r.error_map is None or min(r.error_map.shape) < 2 or r.is_view or r.around:
        return False
    return bool((r.error_map != 0).any())


def _as_picture(title: str, image: Any) -> Any:
    x = image.detach() if isinstance(image, Tensor) else torch.as_tensor(image)
    if x.dim() == 3 and x.shape[0] == 3 and x.shape[2] != 3:
        x = x.movedim(0, 2)
    if x.dim() not in (2, 3) or (x.dim() == 3 and x.shape[2] != 3):
        raise ValueError(f"Image {title!r} has shape {tuple(x.shape)}: give (h, w), (h, w, 3) or (3, h, w).")
    return x.float().numpy()


def _title(r: OpRecord) -> str:
    lost = f"{r.digits_lost:.1f} digits lost" if r.cancels else ""
    return f"#{r.index} {r.op} {r.outputs[0].dtype}\nerror up to {r.error:.1e}\n{lost}"
