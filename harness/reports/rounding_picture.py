"""A trace as a picture: the images that went in, and next to them where each op that stands out is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.rounding.op_trace import OpRecord, Trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_MAPS = 6


def plot_trace(trace: Trace, images: Mapping[str, Any]) -> Figure:
    """Images on the first row, error maps on the second, each map on its own scale with the scale beside it.

    The maps are those of the ops that stand out (first excess, cancellations, mismatches) and of the last op
    that has one; where there are more than six, the first five and the last.

    Args:
        trace: recorded with ``maps=True``.
        images: title -> array or tensor of shape (h, w), (h, w, 3) or (3, h, w), values in [0, 1].

    Returns:
        A matplotlib figure that belongs to no window: save it with ``figure.savefig(path)``.

    Raises:
        ValueError: the trace has no maps, or an image has another shape.
    """
    from matplotlib.figure import Figure  # here, so that a trace needs no matplotlib

    shown = _standing_out(trace)
    if not shown:
        raise ValueError("The trace has no error maps to plot: record it with record_ops(..., maps=True).")
    columns = max(len(images), len(shown))
    figure = Figure(figsize=(2.8 * columns, 5.8), layout="constrained")
    axes = figure.subplots(2, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (title, image) in zip(axes[0], images.items(), strict=False):
        ax.imshow(_as_picture(title, image), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        ax.set_title(title, fontsize=9)
    for ax, record in zip(axes[1], shown, strict=False):
        assert record.error_map is not None
        drawn = ax.imshow(record.error_map.numpy(), cmap="magma", vmin=0, interpolation="nearest")
        figure.colorbar(drawn, ax=ax, shrink=0.7, format="%.1e")
        ax.set_title(_title(record), fontsize=8)
    return figure


def _standing_out(trace: Trace) -> list[OpRecord]:
    with_maps = [r for r in trace.records if r.error_map is not None and min(r.error_map.shape) > 1 and not r.is_view]
    first = trace.first_excess
    indices = {r.index for r in trace.cancellations} | {i for m in trace.mismatches for i in m.ops}
    indices |= set() if first is None else {first.index}
    found = [r for r in with_maps if r.index in indices][: _MOST_MAPS - 1]
    return [*found, *(r for r in with_maps[-1:] if r not in found)]


def _as_picture(title: str, image: Any) -> Any:
    x = image.detach() if isinstance(image, Tensor) else torch.as_tensor(image)
    if x.dim() == 3 and x.shape[0] == 3 and x.shape[2] != 3:
        x = x.movedim(0, 2)
    if x.dim() not in (2, 3) or (x.dim() == 3 and x.shape[2] != 3):
        raise ValueError(f"Image {title!r} has shape {tuple(x.shape)}: give (h, w), (h, w, 3) or (3, h, w).")
    return x.float().clamp(0, 1).numpy()


def _title(r: OpRecord) -> str:
    lost = f"{r.digits_lost:.1f} digits lost" if r.cancels else ""
    return f"#{r.index} {r.op} {r.outputs[0].dtype}\nerror up to {r.error:.1e}\n{lost}"
