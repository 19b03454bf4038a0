"""The difference form of 1 − SSIM and its gradient in one pass over tiles of the picture, compiled by Triton for a GPU.

Whoever imports this needs Triton. With ``TRITON_INTERPRET=1`` in the environment when it is imported, the same kernel
runs on the CPU, slowly, for tests.

A program has one tile of one plane. In Triton a program can't look at its neighbour's number in a tile, but it can
multiply tiles as matrices, so the window's filter is a product with a band matrix from the left and one from the right,
and its adjoint one with their transposes. Each tile is loaded with what its windows see around it (10 pixels at each
side), which is calculated twice then, and nothing but the images is read from memory and nothing but the gradients
written to it. A tile of which the mask shows nothing is left at once, so that no box has to be known beforehand.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float
from torch import Tensor

from gslrm.model.gaussian_window import WINDOW_SIZE, window_taps
from gslrm.model.ssim_difference import SsimConstants

_REACH = tl.constexpr(WINDOW_SIZE - 1)
# Where in the numbers that a kernel is handed t, C1, C2 and a window's weight stand, after the taps.
_T, _C1, _C2, _WEIGHT = (tl.constexpr(WINDOW_SIZE + i) for i in range(4))
_SIDES = {torch.float32: 64, torch.float64: 32}
"""A tile's side in pixels, what it sees around it included."""

_jit: Any = triton.jit


@_jit
def _product(one, other):
    """In float32 three products in TF32, whose ten bits alone are not enough; in float64 a sum.

    Not ``tl.dot`` in float64: Triton 3.7 can't compile a product of products for compute capability 8.0.
    """
    if one.dtype == tl.float64:
        return tl.sum(one[:, :, None] * other[None, :, :], axis=1)
    return tl.dot(one, other, input_precision="tf32x3")


@_jit
def _filtered(first, planes, last):
    """``first`` · planes · ``last``."""
    return _product(_product(first, planes), last)


@_jit
def _tile(  # type: ignore[no-untyped-def]
    x,
    y,
    shown,
    by_x,
    by_y,
    sums,
    numbers,
    channels,
    height,
    width,
    across,
    x_image,
    x_channel,
    x_row,
    x_column,
    y_image,
    y_channel,
    y_row,
    y_column,
    shown_image,
    shown_row,
    shown_column,
    MASKED: tl.constexpr,
    WANTS_X: tl.constexpr,
    WANTS_Y: tl.constexpr,
    SIDE: tl.constexpr,
):
    """One tile of one plane: its windows' sum of 1 − SSIM, and the gradients of its pixels.

    Program (p, t) has tile t of plane p. Gradients are contiguous; ``sums`` is (planes, tiles).
    """
    halo: tl.constexpr = _REACH if (WANTS_X or WANTS_Y) else 0
    step: tl.constexpr = SIDE - _REACH - halo
    plane, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    image, channel = plane // channels, plane % channels
    i = tl.arange(0, SIDE)
    rows, columns = (tile // across) * step - halo + i, (tile % across) * step - halo + i
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))[None, :]
    rows_at, columns_at = rows.to(tl.int64)[:, None], columns.to(tl.int64)[None, :]
    seen = inside
    if MASKED:
        at = shown + image * shown_image + rows_at * shown_row + columns_at * shown_column
        seen = inside & (tl.load(at, mask=inside, other=0) != 0)
    # A tile's own pixels: those of which it has all windows.
    own = ((i >= halo) & (i < SIDE - _REACH))[:, None] & ((i >= halo) & (i < SIDE - _REACH))[None, :] & inside
    to = (plane * height + rows_at) * width + columns_at
    total = tl.zeros([], numbers.dtype.element_ty)
    if tl.max(tl.max(seen.to(tl.int32), axis=1), axis=0) > 0:
        t, c1, c2, weight = (
            tl.load(numbers + _T),
            tl.load(numbers + _C1),
            tl.load(numbers + _C2),
            tl.load(numbers + _WEIGHT),
        )
        x_at = x + image * x_image + channel * x_channel + rows_at * x_row + columns_at * x_column
        y_at = y + image * y_image + channel * y_channel + rows_at * y_row + columns_at * y_column
        a, c = tl.load(x_at, mask=seen, other=0.0), tl.load(y_at, mask=seen, other=0.0)
        d, s = a - c, tl.where(seen, a + c - t, 0.0)
        # Row i of the band matrix holds the taps from i on: of the window that begins there.
        tap = i[None, :] - i[:, None]
        band = (tap >= 0) & (tap <= _REACH) & (i < SIDE - _REACH)[:, None]
        down = tl.load(numbers + tap, mask=band, other=0.0)
        back = tl.trans(down)

        m, n = _filtered(down, d, back), _filtered(down, s, back)
        v, u = _filtered(down, d * d, back) - m * m, _filtered(down, s * s, back) - n * n
        # What rounding took below zero is zero; a NaN stays.
        v, u = tl.where(v < 0.0, 0.0, v), tl.where(u < 0.0, 0.0, u)
        mean_sum, square = n + t, m * m
        luminance = 1.0 / ((mean_sum * mean_sum + square) * 0.5 + c1)
        contrast = 1.0 / ((u + v) * 0.5 + c2)
        a, c = square * luminance, v * contrast
        is_row = (rows >= 0) & (rows < height - _REACH) & (i < SIDE - _REACH)
        is_column = (columns >= 0) & (columns < width - _REACH) & (i < SIDE - _REACH)
        is_window = is_row[:, None] & is_column[None, :]
        # Each window is counted by the tile whose own pixel it begins at.
        total = tl.sum(tl.sum(tl.where(is_window & own, a + c - a * c, 0.0), axis=1), axis=0)
        if WANTS_X or WANTS_Y:
            by_a = tl.where(is_window, (1.0 - c) * luminance * weight, 0.0)
            by_c = tl.where(is_window, (1.0 - a) * contrast * weight, 0.0)
            by_u = -0.5 * by_c * c
            by_v = by_c + by_u
            by_m = m * ((2.0 - a) * by_a - 2.0 * by_v)
            by_n = -by_a * a * mean_sum - 2.0 * n * by_u
            from_d = 2.0 * d * _filtered(back, by_v, down)
            from_s = 2.0 * s * _filtered(back, by_u, down)
            if WANTS_X:
                found = _filtered(back, by_n + by_m, down) + from_s + from_d
                tl.store(by_x + to, tl.where(seen, found, 0.0), mask=own)
            if WANTS_Y:
                found = _filtered(back, by_n - by_m, down) + from_s - from_d
                tl.store(by_y + to, tl.where(seen, found, 0.0), mask=own)
    else:
        if WANTS_X:
            tl.store(by_x + to, tl.zeros([SIDE, SIDE], tl.float32), mask=own)
        if WANTS_Y:
            tl.store(by_y + to, tl.zeros([SIDE, SIDE], tl.float32), mask=own)
    tl.store(sums + plane * tl.num_programs(1) + tile, total)


INTERPRETED = not isinstance(_tile, triton.runtime.jit.JITFunction)
"""Whether the kernel runs on the CPU, as ``TRITON_INTERPRET`` had it when this was imported."""


def tiled_ssim_loss(
    x: Float[Tensor, "n c h w"],
    y: Float[Tensor, "n c h w"],
    foreground: Bool[Tensor, "n 1 h w"] | None,
    constants: SsimConstants,
    *,
    wants_x: bool,
    wants_y: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The mean over windows, channels and images of 1 − SSIM, in [0, 2], and its gradients by x and y where wanted.

    As :func:`gslrm.model.ssim_plain.plain_ssim_loss`, without waiting for the GPU. Where a value that counts is not
    finite the loss is NaN, and so is the gradient of the pixels around it, further away than a window sees.

    Args:
        x, y: float32 or float64, both, on a CUDA device, or anywhere where the kernel is interpreted.
        foreground: what counts; elsewhere both images are half of ``constants.offset``. ``None``: everything.
    """
    x, y = x.detach(), y.detach()
    n, c, h, w = x.shape
    side, reach = _SIDES[x.dtype], WINDOW_SIZE - 1
    step = side - reach * (2 if wants_x or wants_y else 1)
    across, below = triton.cdiv(w, step), triton.cdiv(h, step)
    weight = 1.0 / (n * c * (h - reach) * (w - reach))
    numbers = x.new_tensor((*window_taps(), constants.offset, constants.c1, constants.c2, weight))
    by_x = x.new_empty(x.shape) if wants_x else None
    by_y = y.new_empty(y.shape) if wants_y else None
    sums = x.new_empty((n * c, below * across))
    shown = x if foreground is None else foreground.view(torch.uint8)
    with torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext():
        _tile[(n * c, below * across)](
            x,
            y,
            shown,
            x if by_x is None else by_x,
            y if by_y is None else by_y,
            sums,
            numbers,
            c,
            h,
            w,
            across,
            *x.stride(),
            *y.stride(),
            *(shown.stride()[0], *shown.stride()[2:]),
            MASKED=foreground is not None,
            WANTS_X=wants_x,
            WANTS_Y=wants_y,
            SIDE=side,
            num_warps=8,
        )
    # Float32 holds one tile's sum well, and of many tiles' not. The upper end is passed only through rounding.
    value = (sums.sum(dtype=torch.float64) * weight).clamp(max=2.0).to(x.dtype)
    return value, by_x, by_y
