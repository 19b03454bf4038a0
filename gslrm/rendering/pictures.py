"""Pictures for people: target, rendering and error side by side, as a PNG."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

GAP = 2
"""Width of the grey lines between pictures, px."""
GREY = 0.5
FULL_ERROR = 0.5
"""The mean absolute error over RGB that is drawn white, the heat map's hottest."""


def heat_map(target: Float[Tensor, "*n 3 h w"], rendering: Float[Tensor, "*n 3 h w"]) -> Float[Tensor, "*n 3 h w"]:
    """Mean |Δ| over RGB as colour in [0, 1]: black 0, then red, yellow, and white at `FULL_ERROR` or more.

    Where either picture is NaN or infinite it is magenta, which the scale does not hold.
    """
    error = (rendering - target).abs().mean(-3)
    heat = (3 * error / FULL_ERROR).clamp(0, 3)
    colour = torch.stack([heat.clamp(0, 1), (heat - 1).clamp(0, 1), (heat - 2).clamp(0, 1)], dim=-3)
    magenta = colour.new_tensor([1.0, 0.0, 1.0]).view(3, 1, 1)
    return torch.where(torch.isfinite(error).unsqueeze(-3), colour, magenta)


def side_by_side(target: Float[Tensor, "v c h w"], rendering: Float[Tensor, "v 3 h w"]) -> UInt8[Tensor, "high wide 3"]:
    """A sheet with one row a view: target, rendering, error; channels of the target past RGB are left out.

    Pictures are clamped to [0, 1], and pixels that are not finite drawn magenta. Raises ValueError for shapes
    that do not fit.
    """
    if target.dim() != 4 or rendering.dim() != 4 or target.shape[1] < 3 or rendering.shape[1] != 3:
        raise ValueError(
            f"target {tuple(target.shape)} and rendering {tuple(rendering.shape)}: "
            "expected (v, 3 or 4, h, w) and (v, 3, h, w)"
        )
    target, rendering = target[:, :3].detach().float().cpu(), rendering.detach().float().cpu()
    if target.shape != rendering.shape or not target.numel():
        raise ValueError(f"target {tuple(target.shape)} and rendering {tuple(rendering.shape)} differ or are empty")
    magenta = torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1)
    columns = [heat_map(target, rendering)]
    for picture in (rendering, target):
        columns.insert(0, torch.where(torch.isfinite(picture).all(1, keepdim=True), picture.clamp(0, 1), magenta))
    views, _, height, width = target.shape
    sheet = torch.full((3, views * (height + GAP) - GAP, 3 * (width + GAP) - GAP), GREY)
    for i, column in enumerate(columns):
        for view in range(views):
            top, left = view * (height + GAP), i * (width + GAP)
            sheet[:, top : top + height, left : left + width] = column[view]
    return (sheet * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()


def write_side_by_side(path: str | Path, target: Float[Tensor, "v c h w"], rendering: Float[Tensor, "v 3 h w"]) -> None:
    """Writes `side_by_side` as a PNG; whoever looks sees the old file or the whole new one, never a part.

    Raises ValueError for shapes that do not fit, or a name that does not end in .png; OSError when it cannot
    be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path}: a picture is written as .png")
    picture = Image.fromarray(side_by_side(target, rendering).numpy())
    # In the same folder, so that the replacement is one step of the file system.
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            picture.save(file, format="PNG")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
