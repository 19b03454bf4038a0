"""The difference form of 1 − SSIM and its gradient in one pass over the picture's rows, compiled by Numba.

Whoever imports this needs Numba. Compiling takes seconds, once for each dtype: what is compiled is kept beside this
file, or in the user's cache folder, where either can be written.

A job is a box of pixels of one plane. Its rows come in pairs. The rows of d and s go into buffers; from their last 12
the vertical filter makes rows of Fd, Fd², Fs, Fs², the horizontal filter and the formulas of
:mod:`gslrm.model.ssim_difference` rows of what is spread back, which go into buffers too; the filters again, and a row
of the gradient is done. Full buffers begin anew with their last 10 rows. So everything stays in the processor's cache,
and 12 rows in order always lie one below the other, at distances that the compiler knows: without that it doesn't
vectorise. Nor does it where a loop reads or writes too many rows at once, or where an index could be negative: hence
the small loops and the unsigned numbers.
"""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np
from numba import carray

from gslrm.model import mask_numba
from gslrm.model.mask_numba import JOB
from gslrm.model.numba_tasks import compiled, compiled_task, magnitude_bits, pointer, sources_digest, take_number

U: Any = np.uint64
STRIP = 256
"""The widest job, in columns of its gradient."""
_P = U(STRIP + 64)  # from row to row
_LINES = U(36)
_BUFFER = _LINES * _P
# The buffers of d and s, and of what is spread back: Gm + Gn, gv, gu.
_D, _S, _BACK = U(0), _BUFFER, U(2) * _BUFFER
_ROWS = U(5) * _BUFFER  # rows that the vertical filter made
_MOMENTS = _ROWS + U(8) * _P
_SUMS, _WEIGHTS, _COPIES = _MOMENTS + U(4) * _P, _MOMENTS + U(5) * _P, _MOMENTS + U(6) * _P
SCRATCH = int(_COPIES + U(2) * _P)
"""Elements of scratch for one thread. They must be zeros the first time."""
TAPS = 6
"""Half a window, the middle included. After these a pass's constants are 0, t, 1, 1/2, C1, C2, weight and limit."""
_ZERO, _T, _ONE, _HALVE, _C1, _C2, _WEIGHT, _LIMIT = range(TAPS, TAPS + 8)

_inlined: Any = numba.njit(inline="always")
_across = _inlined(
    lambda b, s, k0, k1, k2, k3, k4, k5: (
        k0 * (b[s] + b[s + U(10)])
        + k1 * (b[s + U(1)] + b[s + U(9)])
        + k2 * (b[s + U(2)] + b[s + U(8)])
        + k3 * (b[s + U(3)] + b[s + U(7)])
        + k4 * (b[s + U(4)] + b[s + U(6)])
        + k5 * b[s + U(5)]
    )
)


@compiled
def _down_with_squares(b, source, to, n, k):
    """Two rows of F x and two of F x², vertically, from twelve of x."""
    k0, k1, k2, k3, k4, k5 = k[0], k[1], k[2], k[3], k[4], k[5]
    for j in range(n):
        s, o = source + j, to + j
        x0, x1, x2, x3 = b[s], b[s + _P], b[s + U(2) * _P], b[s + U(3) * _P]
        x4, x5, x6, x7 = b[s + U(4) * _P], b[s + U(5) * _P], b[s + U(6) * _P], b[s + U(7) * _P]
        x8, x9, xa, xb = b[s + U(8) * _P], b[s + U(9) * _P], b[s + U(10) * _P], b[s + U(11) * _P]
        b[o] = k0 * (x0 + xa) + k1 * (x1 + x9) + k2 * (x2 + x8) + k3 * (x3 + x7) + k4 * (x4 + x6) + k5 * x5
        b[o + _P] = k0 * (x1 + xb) + k1 * (x2 + xa) + k2 * (x3 + x9) + k3 * (x4 + x8) + k4 * (x5 + x7) + k5 * x6
        x0, x1, x2, x3, x4, x5 = x0 * x0, x1 * x1, x2 * x2, x3 * x3, x4 * x4, x5 * x5
        x6, x7, x8, x9, xa, xb = x6 * x6, x7 * x7, x8 * x8, x9 * x9, xa * xa, xb * xb
        b[o + U(2) * _P] = k0 * (x0 + xa) + k1 * (x1 + x9) + k2 * (x2 + x8) + k3 * (x3 + x7) + k4 * (x4 + x6) + k5 * x5
        b[o + U(3) * _P] = k0 * (x1 + xb) + k1 * (x2 + xa) + k2 * (x3 + x9) + k3 * (x4 + x8) + k4 * (x5 + x7) + k5 * x6


@compiled
def _down(b, source, to, n, k):
    """Two rows of F x, vertically, from twelve of x."""
    k0, k1, k2, k3, k4, k5 = k[0], k[1], k[2], k[3], k[4], k[5]
    for j in range(n):
        s, o = source + j, to + j
        x0, x1, x2, x3 = b[s], b[s + _P], b[s + U(2) * _P], b[s + U(3) * _P]
        x4, x5, x6, x7 = b[s + U(4) * _P], b[s + U(5) * _P], b[s + U(6) * _P], b[s + U(7) * _P]
        x8, x9, xa, xb = b[s + U(8) * _P], b[s + U(9) * _P], b[s + U(10) * _P], b[s + U(11) * _P]
        b[o] = k0 * (x0 + xa) + k1 * (x1 + x9) + k2 * (x2 + x8) + k3 * (x3 + x7) + k4 * (x4 + x6) + k5 * x5
        b[o + _P] = k0 * (x1 + xb) + k1 * (x2 + xa) + k2 * (x3 + x9) + k3 * (x4 + x8) + k4 * (x5 + x7) + k5 * x6


@compiled
def _fill(b, at, n, xs, x, ys, y, shown, f, k):
    """A row of d and one of s into their buffers; returns the largest bits of a magnitude that the mask shows."""
    zero, t = k[_ZERO], k[_T]
    largest = magnitude_bits(zero)
    for j in range(n):
        seen = shown[f + j] != 0
        a = xs[x + j] if seen else zero
        c = ys[y + j] if seen else zero
        b[_D + at + j] = a - c
        b[_S + at + j] = (a + c - t) if seen else zero
        of_a, of_c = magnitude_bits(a), magnitude_bits(c)
        larger = of_a if of_a > of_c else of_c
        largest = larger if larger > largest else largest
    return largest


@compiled
def _blank(b, at, n, k):
    """Zeros in a row."""
    for j in range(n):
        b[at + j] = k[_ZERO]


@compiled
def _begin_anew(b, n, buffers):
    """The last ten rows of full buffers become their first."""
    for buffer in range(buffers):
        for line in range(U(10)):
            to = buffer * _BUFFER + line * _P
            source = to + (_LINES - U(10)) * _P
            for j in range(n):
                b[to + j] = b[source + j]


@compiled
def _moments(b, source, to, n, k):
    """Mean and variance, horizontally, from a row of F x and that of F x² two below it."""
    k0, k1, k2, k3, k4, k5 = k[0], k[1], k[2], k[3], k[4], k[5]
    zero = k[_ZERO]
    for j in range(n):
        s = source + j
        mean = _across(b, s, k0, k1, k2, k3, k4, k5)
        variance = _across(b, s + U(2) * _P, k0, k1, k2, k3, k4, k5) - mean * mean
        b[to + j] = mean
        # What rounding took below zero is zero; a NaN stays.
        b[to + _P + j] = zero if variance < zero else variance


@compiled
def _values(b, n, k):
    """Adds a row of windows' 1 − SSIM to the columns' sums."""
    t, one, half, c1, c2 = k[_T], k[_ONE], k[_HALVE], k[_C1], k[_C2]
    for j in range(n):
        s = _MOMENTS + j
        m, v, mean, u = b[s], b[s + _P], b[s + U(2) * _P], b[s + U(3) * _P]
        mean_sum, square = mean + t, m * m
        a = square * (one / ((mean_sum * mean_sum + square) * half + c1))
        c = v * (one / ((u + v) * half + c2))
        b[_SUMS + j] += a + c - a * c


@compiled
def _values_and_what_is_spread(b, to, n, k):
    """Likewise, and three rows of what the gradient by x spreads back: 0 where a window's weight is 0."""
    zero, t, one, half, c1, c2 = k[_ZERO], k[_T], k[_ONE], k[_HALVE], k[_C1], k[_C2]
    for j in range(n):
        s, o = _MOMENTS + j, to + j
        m, v, mean, u = b[s], b[s + _P], b[s + U(2) * _P], b[s + U(3) * _P]
        mean_sum, square = mean + t, m * m
        luminance, contrast = one / ((mean_sum * mean_sum + square) * half + c1), one / ((u + v) * half + c2)
        a, c = square * luminance, v * contrast
        b[_SUMS + j] += a + c - a * c
        weight = b[_WEIGHTS + j]
        by_a, by_c = (one - c) * luminance * weight, (one - a) * contrast * weight
        by_u = -half * by_c * c
        by_v = by_c + by_u
        by_m = m * ((one + one - a) * by_a - (by_v + by_v))
        by_mean = -by_a * a * mean_sum - (mean + mean) * by_u
        b[o] = by_mean + by_m if weight != zero else zero
        b[o + _BUFFER] = by_v if weight != zero else zero
        b[o + U(2) * _BUFFER] = by_u if weight != zero else zero


@compiled
def _gradient(b, means, pixels, n, to, at, shown, f, k):
    """A row of the gradient by x."""
    k0, k1, k2, k3, k4, k5 = k[0], k[1], k[2], k[3], k[4], k[5]
    for j in range(n):
        s = means + j
        by_mean = _across(b, s, k0, k1, k2, k3, k4, k5)
        by_v = _across(b, s + U(2) * _P, k0, k1, k2, k3, k4, k5)
        by_u = _across(b, s + U(4) * _P, k0, k1, k2, k3, k4, k5)
        d, s = b[_D + pixels + j], b[_S + pixels + j]
        gradient = by_mean + (d + d) * by_v + (s + s) * by_u
        to[at + j] = gradient if shown[f + j] != 0 else k[_ZERO]


@compiled
def _row_of_pixels(xs, ys, shown, strides, job, row, at, first, n, k, b):
    """A row of d and of s from column ``first`` on, what is in the job's box; returns what :func:`_fill` does."""
    image, channel, top, bottom, left, right = job[0], job[1], job[2], job[3], job[4], job[5]
    if row < top or row >= bottom:
        _blank(b, _D + at, n, k)
        _blank(b, _S + at, n, k)
        return magnitude_bits(k[_ZERO])
    low, high = max(first, left), min(first + n, right)
    f = image * strides[2, 0] + row * strides[2, 2] + low
    x = image * strides[0, 0] + channel * strides[0, 1] + row * strides[0, 2] + low * strides[0, 3]
    y = image * strides[1, 0] + channel * strides[1, 1] + row * strides[1, 2] + low * strides[1, 3]
    if strides[0, 3] == U(1) and strides[1, 3] == U(1):
        return _fill(b, at + (low - first), high - low, xs, x, ys, y, shown, f, k)
    for j in range(high - low):
        b[_COPIES + j] = xs[x + j * strides[0, 3]]
        b[_COPIES + _P + j] = ys[y + j * strides[1, 3]]
    return _fill(b, at + (low - first), high - low, b, _COPIES, b, _COPIES + _P, shown, f, k)


@compiled
def _row_of_gradient(to, strides, shown, job, row, means, pixels, k, b):
    """A row of the gradient to where it belongs."""
    first, n = job[8], job[9] - job[8]
    f = job[0] * strides[2, 0] + row * strides[2, 2] + first
    at = job[0] * strides[3, 0] + job[1] * strides[3, 1] + row * strides[3, 2] + first * strides[3, 3]
    if strides[3, 3] == U(1):
        _gradient(b, means, pixels, n, to, at, shown, f, k)
    else:
        _gradient(b, means, pixels, n, b, _COPIES, shown, f, k)
        for j in range(n):
            to[at + j * strides[3, 3]] = b[_COPIES + j]


@compiled
def _sum(b, first, last):
    """The sum of the columns' sums, which are zero then."""
    total = 0.0
    for j in range(first, last):
        total += b[_SUMS + j]
    for j in range(last):
        b[_SUMS + j] = 0
    return total


@compiled
def _begin(b, job, first, pixels, windows, whole, spread, lines, wanted, k):
    """What a job's rows find in the scratch that they don't write."""
    # Outside the job's box everything is zero: columns here, rows as they come.
    before, after = max(first, job[4]) - first, min(first + pixels, job[5]) - first
    if before > U(0) or after < pixels:
        for line in range(lines):
            for buffer in (_D, _S):
                _blank(b, buffer + line * _P, before, k)
                _blank(b, buffer + line * _P + after, pixels - after, k)
    if wanted:
        for j in range(whole):
            b[_WEIGHTS + j] = k[_WEIGHT] if j < windows else k[_ZERO]
        # No window is above these rows, unless it is the job's before; then no row of the gradient asks for them.
        for line in range(U(10)):
            for buffer in range(U(2), U(5)):
                _blank(b, buffer * _BUFFER + line * _P, spread, k)


@compiled
def _run_job(xs, ys, shown, by_x, strides, size, job, k, wanted, b):
    """One job: the sum of 1 − SSIM over the windows that it counts, and the largest bits of a magnitude shown."""
    height, width = size[0], size[1]
    r0, r1, c0, c1 = job[6], job[7], job[8], job[9]
    # Windows that see the job's pixels. Those above and to the left of them are the job's before, if there is one.
    w0, w1 = max(U(10), r0) - U(10), min(r1, height - U(10))
    q0, q1 = max(U(10), c0) - U(10), min(c1, width - U(10))
    counted, skipped = w0 if r0 == job[2] else r0, U(0) if c0 == job[4] else c0 - q0
    windows = q1 - q0
    pixels = windows + U(10)
    # Whole vectors, where there is room for them.
    across, whole = (windows + U(15)) // U(16) * U(16), (pixels + U(15)) // U(16) * U(16)
    spread = (c1 - q0 + U(25)) // U(16) * U(16)
    buffers, end = (U(5), r1) if wanted else (U(2), w1)
    largest, total = magnitude_bits(k[_ZERO]), 0.0
    # Of pixels that the windows, and the gradient, see.
    rows = end + U(10) - w0
    _begin(b, job, q0, pixels, windows, whole, spread, min(_LINES, rows + U(1)), wanted, k)
    line = U(0)
    for pair in range((rows + U(1)) // U(2)):
        if line == _LINES:
            _begin_anew(b, spread, buffers)
            # A few rows' sums are exact enough in the images' precision.
            total += _sum(b, skipped, windows)
            line = U(10)
        i, at = w0 + U(2) * pair, line * _P
        for e in range(U(2)):
            bits = _row_of_pixels(xs, ys, shown, strides, job, i + e, at + e * _P, q0, pixels, k, b)
            largest = bits if bits > largest else largest
        line += U(2)
        if pair < U(5):
            continue
        r, oldest = i - U(10), at - U(10) * _P
        if r < w1:
            _down_with_squares(b, _D + oldest, _ROWS, whole, k)
            _down_with_squares(b, _S + oldest, _ROWS + U(4) * _P, whole, k)
        for e in range(U(2)):
            back = _BACK + at + e * _P
            if r + e < w1:
                if r + e == counted:
                    _sum(b, skipped, windows)
                    total = 0.0
                _moments(b, _ROWS + e * _P, _MOMENTS, across, k)
                _moments(b, _ROWS + (U(4) + e) * _P, _MOMENTS + U(2) * _P, across, k)
                if wanted:
                    _values_and_what_is_spread(b, back + U(10), whole, k)
                else:
                    _values(b, across, k)
            elif wanted:
                for buffer in range(U(3)):
                    _blank(b, back + buffer * _BUFFER, spread, k)
        if not wanted or r + U(1) < r0:
            continue
        for buffer in range(U(3)):
            _down(b, _BACK + buffer * _BUFFER + oldest, _ROWS + U(2) * buffer * _P, spread, k)
        for e in range(U(2)):
            if r0 <= r + e < r1:
                _row_of_gradient(
                    by_x, strides, shown, job, r + e, _ROWS + e * _P + (c0 - q0), oldest + e * _P + (c0 - q0), k, b
                )
    total += _sum(b, skipped, windows)
    return total if counted < w1 else 0.0, largest


_ADDRESSES = ("x", "y", "shown", "job_table", "constants", "results", "scratch", "by_x")
CALL = np.dtype(
    [(name, "i8") for name in ("next_job", "next_scratch", "jobs", "wanted", *_ADDRESSES)]
    + [("size", "u8", (2,)), ("strides", "u8", (4, 4))]
)
"""What a task is given. Of what is not said here to be something else, the address.

Attributes:
    next_job, next_scratch: 0 at first.
    jobs: how many there are; ``job_table`` has them as :func:`gslrm.model.mask_numba.plan` makes them.
    wanted: whether the gradient by x is.
    shown: bytes, 1 where the mask shows, else 0. Columns are neighbours.
    constants: by the names above, in the images' dtype.
    scratch: SCRATCH elements for each thread.
    results: of each job two float64: the sum of 1 − SSIM over the windows that it counts; and 1 where a value that the
        mask shows is larger than the limit or not finite, else 0.
    size: height and width.
    strides: of x, y, ``shown`` and the gradient, in elements: by image, channel, row and column.
"""


@functools.cache
def task(bits: int) -> int:
    """The address of the task for images of floats of 32 or 64 bits: jobs, one by one, until none is left."""
    kind, version = np.float32 if bits == 32 else np.float64, sources_digest(mask_numba)

    def run_jobs(data):
        if not version:  # which makes it one of the things that what is kept on disk is known by
            return
        call = carray(data, 1)[0]
        xs, ys = carray(pointer(call.x), 1, kind), carray(pointer(call.y), 1, kind)
        shown, by_x = carray(pointer(call.shown), 1, np.uint8), carray(pointer(call.by_x), 1, kind)
        jobs = carray(pointer(call.job_table), (call.jobs, JOB), np.uint64)
        results = carray(pointer(call.results), (call.jobs, 2), np.float64)
        k = carray(pointer(call.constants), TAPS + 8, kind)
        mine = take_number(data, 1) * (SCRATCH * bits // 8)
        b = carray(pointer(call.scratch + mine), SCRATCH, kind)
        while True:
            number = take_number(data, 0)
            if number >= call.jobs:
                break
            job, wanted = jobs[number], call.wanted != 0
            total, largest = _run_job(xs, ys, shown, by_x, call.strides, call.size, job, k, wanted, b)
            suspicious = largest > magnitude_bits(k[_LIMIT]) or largest >= magnitude_bits(k[_ONE] / k[_ZERO])
            results[number, 0], results[number, 1] = total, 1.0 if suspicious else 0.0

    return compiled_task(run_jobs, CALL)
