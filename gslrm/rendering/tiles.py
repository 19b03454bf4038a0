"""Cutting a picture into square tiles, and finding the Gaussians over each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Tiling:
    """How a picture is cut up; it changes time and memory, not the picture.

    tile: side of a tile, px. cells: the most numbers (pixels × Gaussians) in one buffer, about; a CPU wants a
    few buffers to fit its cache, a GPU wants them large.
    """

    tile: int
    cells: int

    def __post_init__(self) -> None:
        if min(self.tile, self.cells) < 1:
            raise ValueError(f"tile and cells must be at least 1, not {self.tile} and {self.cells}")

    @classmethod
    def for_picture(cls, height: int, width: int, device: torch.device) -> Tiling:
        """Small tiles for small pictures, and buffers for the device's kind."""
        side = max(height, width)
        tile = 4 if side <= 64 else 8 if side <= 256 else 16
        return cls(tile, 2**22 if device.type == "cuda" else 2**16)


@dataclass(frozen=True)
class Batch:
    """t tiles and the Gaussians over each, nearest first, the tiles with the most Gaussians first.

    tiles: their numbers, row by row of the grid. member: columns of the table. filled: false where a tile has
    fewer Gaussians than the most. counts: Gaussians over each tile.
    """

    tiles: Int[Tensor, " t"]
    member: Int[Tensor, "t k"]
    filled: Bool[Tensor, "t k"]
    counts: list[int]


class Grid:
    """The tiles of one picture of height × width px."""

    def __init__(self, height: int, width: int, tiling: Tiling) -> None:
        self.height, self.width, self.tiling, self.side = height, width, tiling, tiling.tile
        self.rows, self.columns = -(-height // self.side), -(-width // self.side)

    def offsets(self, like: Tensor) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"]]:
        """x and y of a tile's p pixel centres from the tile's own centre, px."""
        steps = torch.arange(self.side, device=like.device, dtype=like.dtype) + 0.5 - self.side / 2
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        return x.flatten(), y.flatten()

    def centres(self, tiles: Int[Tensor, " t"], like: Tensor) -> tuple[Float[Tensor, "t 1"], Float[Tensor, "t 1"]]:
        """x and y of the tiles' centres, px."""
        column, row = (part.to(like.dtype)[:, None] for part in (tiles % self.columns, tiles // self.columns))
        return (column + 0.5) * self.side, (row + 0.5) * self.side

    def cut(self, picture: Float[Tensor, "c h w"]) -> Float[Tensor, "t p c"]:
        """Cuts a picture into tiles of p pixels, zeros past its edges."""
        below, right = self.rows * self.side - self.height, self.columns * self.side - self.width
        padded = torch.nn.functional.pad(picture, (0, right, 0, below))
        tiles = padded.view(-1, self.rows, self.side, self.columns, self.side).permute(1, 3, 2, 4, 0)
        return tiles.reshape(self.rows * self.columns, self.side**2, -1)

    def join(self, tiles: Float[Tensor, "t p c"]) -> Float[Tensor, "c h w"]:
        """The inverse of `cut`."""
        grid = tiles.view(self.rows, self.columns, self.side, self.side, -1).permute(4, 0, 2, 1, 3)
        whole = grid.reshape(-1, self.rows * self.side, self.columns * self.side)
        return whole[:, : self.height, : self.width].contiguous()

    def _touches(self, low: Tensor, high: Tensor, tiles: int) -> Bool[Tensor, "tiles n"]:
        """Whether a span of px reaches a pixel centre of each of the columns, or rows, of tiles."""
        first = torch.arange(tiles, device=low.device, dtype=low.dtype)[:, None] * self.side + 0.5
        return (low <= first + (self.side - 1)) & (high >= first)

    def batches(self, mean: Float[Tensor, "2 n"], reach: Float[Tensor, "2 n"]) -> Iterator[Batch]:
        """All tiles that a Gaussian's box (mean ± reach, px) touches; Gaussians stay in their order."""
        n = mean.shape[1]
        if not n:
            return
        low, high = mean - reach, mean + reach
        column, row = self._touches(low[0], high[0], self.columns), self._touches(low[1], high[1], self.rows)
        # The table of which Gaussian touches which tile must stay small too, so it is made for a band of rows
        # at a time.
        band = max(1, 64 * self.tiling.cells // (self.columns * n))
        for top in range(0, self.rows, band):
            rows = row[top : top + band]
            near = rows.any(0).nonzero().squeeze(1) if band < self.rows else None
            across = column if near is None else column.index_select(1, near)
            down = rows if near is None else rows.index_select(1, near)
            tile, member = (down[:, None] & across).flatten(0, 1).nonzero().T.contiguous()
            if near is not None:
                member = near.index_select(0, member)
            tiles = torch.arange(len(rows) * self.columns + 1, device=tile.device)
            edge = torch.searchsorted(tile, tiles)
            start, count = edge[:-1], edge.diff()
            order = count.argsort(descending=True, stable=True)
            counts = [c for c in count[order].tolist() if c]
            first = 0
            while first < len(counts):
                some = counts[first : first + max(1, self.tiling.cells // (2 * counts[first]))]
                chosen = order[first : first + len(some)]
                place = torch.arange(some[0], device=chosen.device)
                slot = (start[chosen, None] + place).clamp_(max=len(member) - 1)
                members = member.index_select(0, slot.flatten()).view(slot.shape)
                yield Batch(chosen + top * self.columns, members, place < count[chosen, None], some)
                first += len(some)
