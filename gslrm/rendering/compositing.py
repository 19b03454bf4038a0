"""Front-to-back alpha compositing of 2D Gaussians, tile by tile, with its backward pass written by hand.

A pixel's feature is Σ w[i] f[i] with w[i] = α[i] Π (1 − α[j]) over the nearer j (Kerbl et al. 2023, eq. 3).
As there, α is held at 0.99 and dropped at 1/255 or under, and a pixel is finished before its transmittance
would reach 1e-4.

The picture is cut into square tiles. Many tiles are taken at once, and of each tile's Gaussians a few at a
time, nearest first, so that memory is bounded by `Tiling` and not by pixels × Gaussians. Nothing is kept for
the backward pass, which computes the weights again.

Inside a tile the exponent is a quadratic polynomial of the pixel's offset from the tile's centre, so all
exponents are one matrix product with the six monomials, and their gradients another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from gslrm.rendering.projection import ALPHA_CUTOFF, SHAPE
from gslrm.rendering.tiles import Batch, Grid, Tiling

ALPHA_MAX = 0.99
"""The most that one Gaussian may cover of a pixel, so that those behind it keep a gradient."""
TRANSMITTANCE_MIN = 1e-4
"""A Gaussian that would leave a pixel this much or less of its light is not added, nor any behind it."""
_NOTHING = -1e4  # an exponent whose alpha is 0
_SHORTEST_RUN = 32  # Gaussians; shorter matrix products cost more than the tiles they would spare


class _Picture:
    """The Gaussians of one picture, by batches of tiles."""

    def __init__(self, table: Tensor, reach: Tensor, height: int, width: int, tiling: Tiling) -> None:
        self.table, self.reach, self.grid = table, reach, Grid(height, width, tiling)
        x, y = self.grid.offsets(table)
        self.monomials = torch.stack([torch.ones_like(x), x, y, -0.5 * x * x, -x * y, -0.5 * y * y], dim=1)
        # Only an opacity about as large as the clamp can reach it, and the mask for that is slow.
        self.may_be_held = bool((table[SHAPE - 1] > math.log(ALPHA_MAX) - 1e-3).any())

    def batches(self) -> Iterator[_Batch]:
        for batch in self.grid.batches(self.table[:2], self.reach):
            yield _Batch(self, batch)


class _Batch:
    """The Gaussians over t tiles, at most k to a tile, as polynomials around the tiles' centres."""

    def __init__(self, picture: _Picture, batch: Batch) -> None:
        self.picture, self.tiles, self.counts, self.member = picture, batch.tiles, batch.counts, batch.member
        columns = picture.table.index_select(1, batch.member.flatten()).view(-1, *batch.member.shape)
        x, y, xx, xy, yy, log_opacity = columns[:SHAPE]
        centre_x, centre_y = picture.grid.centres(batch.tiles, columns)
        self.u, self.v, self.conic = x - centre_x, y - centre_y, (xx, xy, yy)
        self.pull_x, self.pull_y = xx * self.u + xy * self.v, xy * self.u + yy * self.v
        constant = log_opacity - 0.5 * (self.pull_x * self.u + self.pull_y * self.v)
        constant.masked_fill_(~batch.filled, _NOTHING)
        self.polynomial = torch.stack([constant, self.pull_x, self.pull_y, xx, xy, yy]).transpose(0, 1)
        self.features = columns[SHAPE:].transpose(0, 1)

    def runs(self) -> Iterator[_Run]:
        """Some Gaussians of each tile, then those behind them, until a tile has no more, or no pixel with
        light."""
        pixels = len(self.picture.monomials)
        light = self.features.new_ones(len(self.tiles), pixels)
        live: slice | Tensor = slice(0, len(self.tiles))
        first, alive = 0, len(self.tiles)
        while True:
            last = first + max(_SHORTEST_RUN, self.picture.grid.tiling.cells // (alive * pixels))
            run = _Run(self, live, slice(first, last), light[live])
            yield run
            light[live] = run.after
            first = last
            remain = sum(count > first for count in self.counts)
            live, alive = slice(0, remain), remain
            if remain and run.finished:
                # Padding has no light to lose, so tiles are dropped only when all their pixels are finished.
                live = (light[:remain].amax(1) > 0).nonzero().squeeze(1)
                alive = len(live)
            if not alive:
                return

    def table_gradient(
        self, moments: Float[Tensor, "6 t k"], features: Float[Tensor, "5 t k"]
    ) -> Float[Tensor, "11 t k"]:
        """Gradient of the table's columns from that of the polynomials' coefficients and of the features."""
        one, mx, my, mxx, mxy, myy = moments
        (xx, xy, yy), u, v = self.conic, self.u, self.v
        shape = [
            xx * mx + xy * my - self.pull_x * one,
            xy * mx + yy * my - self.pull_y * one,
            mxx + u * (mx - 0.5 * u * one),
            mxy + u * my + v * (mx - u * one),
            myy + v * (my - 0.5 * v * one),
            one,
        ]
        return torch.stack([*shape, *features])


class _Run:
    """The weights of a run of k Gaussians in the p pixels of the live tiles of a batch.

    ratio: α / (1 − α). through: transmittance behind each Gaussian, 0 where the pixel is finished. weight: w.
    after: transmittance behind the run. finished: whether any pixel is.
    """

    def __init__(self, batch: _Batch, live: slice | Tensor, part: slice, light: Float[Tensor, "t p"]) -> None:
        monomials = batch.picture.monomials
        self.live, self.part, self.monomials = live, part, monomials
        self.tiles = batch.tiles[live]
        self.features = batch.features[live, :, part]
        polynomial = batch.polynomial[live, :, part]
        alpha = torch.bmm(monomials.expand(len(light), *monomials.shape), polynomial).exp_()
        torch.threshold_(alpha, ALPHA_CUTOFF, 0.0).clamp_(max=ALPHA_MAX)
        self.held = alpha >= ALPHA_MAX if batch.picture.may_be_held else None
        through = 1 - alpha
        self.ratio = alpha.div_(through)
        through[..., 0] *= light
        torch.cumprod(through, dim=-1, out=through)
        self.finished = bool(through[..., -1].amin() <= TRANSMITTANCE_MIN)
        if self.finished:
            torch.threshold_(through, TRANSMITTANCE_MIN, 0.0)
        self.after = through[..., -1]
        self.through = through
        self.weight = self.ratio * through

    def composite(self) -> Float[Tensor, "t p c"]:
        """Σ w f over this run."""
        return torch.bmm(self.features, self.weight.transpose(1, 2)).transpose(1, 2)

    def backward(
        self, grad: Float[Tensor, "t p c"], behind: Float[Tensor, "t p"]
    ) -> tuple[Float[Tensor, "t 6 k"], Float[Tensor, "t 5 k"], Float[Tensor, "t p"]]:
        """Gradients of the polynomials and of the features, and what is left of `behind`.

        `behind` is Σ w[j] g[j] over the Gaussians of this run and those behind it, with g[j] = grad · f[j].
        With S[i] the same sum over those behind i alone, the exponent's gradient is
        α[i] ∂L/∂α[i] = w[i] g[i] − S[i] α[i] / (1 − α[i]).
        """
        grad_features = torch.bmm(grad.transpose(1, 2), self.weight)
        own = torch.bmm(grad, self.features).mul_(self.weight)
        minus_behind = own.cumsum(-1).sub_(behind[..., None])
        left = -minus_behind[..., -1]
        # What is hidden gets no gradient at all, not even the sum's rounding.
        ratio = self.ratio * self.through.sign() if self.finished else self.ratio
        exponent = own.addcmul_(ratio, minus_behind)
        if self.held is not None:
            exponent.masked_fill_(self.held, 0.0)
        moments = torch.bmm(self.monomials.T.expand(len(grad), *self.monomials.T.shape), exponent)
        return moments, grad_features, left


def composite(
    table: Float[Tensor, "11 n"], reach: Float[Tensor, "2 n"], height: int, width: int, tiling: Tiling
) -> Float[Tensor, "5 h w"]:
    """Σ w f in every pixel; the columns of `table` (see `Footprint`) are sorted nearest first. Not for
    autograd."""
    picture = _Picture(table, reach, height, width, tiling)
    tiles = picture.grid.cut(table.new_zeros(len(table) - SHAPE, height, width))
    for batch in picture.batches():
        for run in batch.runs():
            tiles[run.tiles] += run.composite()
    return picture.grid.join(tiles)


def composite_backward(
    table: Float[Tensor, "11 n"],
    reach: Float[Tensor, "2 n"],
    composited: Float[Tensor, "5 h w"],
    grad: Float[Tensor, "5 h w"],
    tiling: Tiling,
) -> Float[Tensor, "11 n"]:
    """The gradient of `table`, from what `composite` gave and the gradient of that."""
    height, width = composited.shape[1:]
    picture = _Picture(table, reach, height, width, tiling)
    grads = picture.grid.cut(grad)
    behind = picture.grid.cut((composited * grad).sum(0, keepdim=True)).squeeze(-1)
    total = torch.zeros_like(table)
    for batch in picture.batches():
        moments = table.new_zeros(SHAPE, *batch.member.shape).transpose(0, 1)
        features = table.new_zeros(len(composited), *batch.member.shape).transpose(0, 1)
        for run in batch.runs():
            moments[run.live, :, run.part], features[run.live, :, run.part], behind[run.tiles] = run.backward(
                grads[run.tiles], behind[run.tiles]
            )
        columns = batch.table_gradient(moments.transpose(0, 1), features.transpose(0, 1))
        total.index_add_(1, batch.member.flatten(), columns.flatten(1))
    return total
