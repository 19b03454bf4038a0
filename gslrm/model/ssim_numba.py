"""The difference form of 1 − SSIM and its gradient in one pass over the picture's rows, compiled by Numba.

Whoever imports this needs Numba. Compiling takes seconds, once for each dtype: what is compiled is kept beside this
file, or in the user's cache folder, where either can be written.

A job is a box of pixels of one plane. Its rows come in pairs. The rows of d and s go into a ring of the last 12; from
there the vertical filter makes rows of Fd, Fd², Fs, Fs², the horizontal filter and the formulas of
:mod:`gslrm.model.ssim_difference` rows of what is spread back, which go into a second ring; the filters again, and a
row of the gradient is done. So everything stays in the processor's cache. A ring keeps each row twice, 12 rows apart,
so that 12 rows in order always lie one below the other, at distances that the compiler knows: without that it doesn't
vectorise. Nor does it where a loop reads too many rows at once, or where an index could be negative: hence the small
loops and the unsigned numbers.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from gslrm.model import foreground_boxes

U = np.uint64
STRIP = 512
"""The widest job, in columns of its gradient."""
_P = U(STRIP + 64)  # from row to row in the scratch
_HALF = U(12) * _P  # from a ring's row to its double
_RING = U(24) * _P
_S = _RING  # the ring of s, after that of d
_BACK = U(2) * _RING  # the rings of what is spread back: Gm + Gn, gv, gu, Gn − Gm
_ROWS = U(6) * _RING  # rows that are used at once
_SUMS, _LARGEST, _BAD, _COPIES = _ROWS + U(8) * _P, _ROWS + U(12) * _P, _ROWS + U(13) * _P, _ROWS + U(14) * _P
SCRATCH = int(_ROWS + U(18) * _P)
"""Elements of scratch for one thread."""
CELL = 16
MOST_BOXES = foreground_boxes.MOST_BOXES
TAPS = 6
"""Half a window, the middle included. After these a pass's constants are 0, t, 1, 1/2, C1, C2, weight and limit."""
_ZERO, _T, _ONE, _HALVE, _C1, _C2, _WEIGHT, _LIMIT = range(TAPS, TAPS + 8)

_njit: Any = numba.njit
_OPTIONS = {"nogil": True, "fastmath": {"contract", "nsz"}, "error_model": "numpy"}


def _compiled(function):
    try:
        return _njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:
        # No folder can be written to keep it in.
        return _njit(**_OPTIONS)(function)


_cell_boxes = _compiled(foreground_boxes.cell_boxes)
_merge_boxes = _compiled(foreground_boxes.merge_boxes)
_across = _njit(inline="always")(
    lambda b, s, k0, k1, k2, k3, k4, k5: (
        k0 * (b[s] + b[s + U(10)])
        + k1 * (b[s + U(1)] + b[s + U(9)])
        + k2 * (b[s + U(2)] + b[s + U(8)])
        + k3 * (b[s + U(3)] + b[s + U(7)])
        + k4 * (b[s + U(4)] + b[s + U(6)])
        + k5 * b[s + U(5)]
    )
)


@_compiled
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


@_compiled
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


@_compiled
def _fill(b, at, n, xs, x, ys, y, shown, f, k):
    """A row of d and one of s into their rings; the largest of |x| and |y| and what isn't finite are noted."""
    zero, t = k[_ZERO], k[_T]
    for j in range(n):
        seen = shown[f + j] != 0
        a = xs[x + j] if seen else zero
        c = ys[y + j] if seen else zero
        d = a - c
        s = (a + c - t) if seen else zero
        o = at + j
        b[o] = d
        b[o + _HALF] = d
        b[o + _S] = s
        b[o + _S + _HALF] = s
        w = _LARGEST + (at % _P) + j
        largest = abs(a) if abs(a) > abs(c) else abs(c)
        b[w] = largest if largest > b[w] else b[w]
        b[w + _P] += (a - a) + (c - c)


@_compiled
def _blank(b, at, n, k):
    """Zeros in a row of a ring and its double."""
    for j in range(n):
        b[at + j] = k[_ZERO]
        b[at + _HALF + j] = k[_ZERO]


@_compiled
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


@_compiled
def _values(b, n, k, sums):
    """Adds a row of windows' 1 − SSIM to the columns' sums."""
    t, one, half, c1, c2 = k[_T], k[_ONE], k[_HALVE], k[_C1], k[_C2]
    for j in range(n):
        s = _SUMS + j
        m, v, mean, u = b[s], b[s + _P], b[s + U(2) * _P], b[s + U(3) * _P]
        mean_sum, square = mean + t, m * m
        a = square * (one / ((mean_sum * mean_sum + square) * half + c1))
        c = v * (one / ((u + v) * half + c2))
        sums[j] += a + c - a * c


@_compiled
def _values_and_what_is_spread(b, to, n, whole, k, sums):
    """Likewise, and four rows of what the gradient spreads back: 0 from ``n`` to ``whole``, where no windows are."""
    zero, t, one, half, c1, c2, weight = k[_ZERO], k[_T], k[_ONE], k[_HALVE], k[_C1], k[_C2], k[_WEIGHT]
    for j in range(whole):
        s, o = _SUMS + j, to + j
        m, v, mean, u = b[s], b[s + _P], b[s + U(2) * _P], b[s + U(3) * _P]
        mean_sum, square = mean + t, m * m
        luminance, contrast = one / ((mean_sum * mean_sum + square) * half + c1), one / ((u + v) * half + c2)
        a, c = square * luminance, v * contrast
        sums[j] += a + c - a * c
        by_a, by_c = (one - c) * luminance * weight, (one - a) * contrast * weight
        by_u = -half * by_c * c
        by_v = by_c + by_u
        by_m = m * ((one + one - a) * by_a - (by_v + by_v))
        by_mean = -by_a * a * mean_sum - (mean + mean) * by_u
        by_x = by_mean + by_m if j < n else zero
        by_y = by_mean - by_m if j < n else zero
        by_v = by_v if j < n else zero
        by_u = by_u if j < n else zero
        b[o] = by_x
        b[o + _HALF] = by_x
        b[o + _RING] = by_v
        b[o + _RING + _HALF] = by_v
        b[o + U(2) * _RING] = by_u
        b[o + U(2) * _RING + _HALF] = by_u
        b[o + U(3) * _RING] = by_y
        b[o + U(3) * _RING + _HALF] = by_y


@_compiled
def _gradient(b, means, spread, pixels, n, to, at, shown, f, k, sign):
    """A row of the gradient: by x with ``sign`` 1, by y with −1."""
    k0, k1, k2, k3, k4, k5 = k[0], k[1], k[2], k[3], k[4], k[5]
    for j in range(n):
        s = spread + j
        by_mean = _across(b, means + j, k0, k1, k2, k3, k4, k5)
        by_v = _across(b, s, k0, k1, k2, k3, k4, k5)
        by_u = _across(b, s + U(2) * _P, k0, k1, k2, k3, k4, k5)
        d, s = b[pixels + j] * sign, b[pixels + _S + j]
        gradient = by_mean + (d + d) * by_v + (s + s) * by_u
        to[at + j] = gradient if shown[f + j] != 0 else k[_ZERO]


@_compiled
def _rows_of_pixels(xs, ys, shown, strides, job, row, at, first, n, k, b):
    """A row of d and of s from ``first`` on into their rings: zero outside the job's box."""
    image, channel, top, bottom, left, right = job[0], job[1], job[2], job[3], job[4], job[5]
    if row < top or row >= bottom:
        _blank(b, at, n, k)
        _blank(b, _S + at, n, k)
        return
    low, high = max(first, left), min(first + n, right)
    before, after = low - first, high - first
    for ring in (at, _S + at):
        _blank(b, ring, before, k)
        _blank(b, ring + after, n - after, k)
    f = image * strides[2, 0] + row * strides[2, 2] + low
    x = image * strides[0, 0] + channel * strides[0, 1] + row * strides[0, 2] + low * strides[0, 3]
    y = image * strides[1, 0] + channel * strides[1, 1] + row * strides[1, 2] + low * strides[1, 3]
    if strides[0, 3] == U(1) and strides[1, 3] == U(1):
        _fill(b, at + before, high - low, xs, x, ys, y, shown, f, k)
    else:
        for j in range(high - low):
            b[_COPIES + j] = xs[x + j * strides[0, 3]]
            b[_COPIES + _P + j] = ys[y + j * strides[1, 3]]
        _fill(b, at + before, high - low, b, _COPIES, b, _COPIES + _P, shown, f, k)


@_compiled
def _row_of_gradient(to, strides, shown, f_strides, job, row, means, spread, pixels, k, sign, b):
    """A row of the gradient to where it belongs."""
    first, n = job[8], job[9] - job[8]
    f = job[0] * f_strides[0] + row * f_strides[2] + first
    at = job[0] * strides[0] + job[1] * strides[1] + row * strides[2] + first * strides[3]
    if strides[3] == U(1):
        _gradient(b, means, spread, pixels, n, to, at, shown, f, k, sign)
    else:
        _gradient(b, means, spread, pixels, n, b, _COPIES, shown, f, k, sign)
        for j in range(n):
            to[at + j * strides[3]] = b[_COPIES + j]


@_compiled
def run_jobs(xs, ys, shown, by_x, by_y, strides, size, jobs, first, last, k, wants_x, wants_y, b, results):
    """Jobs ``first`` to ``last`` of ``jobs``.

    Args:
        xs, ys, shown, by_x, by_y: flat storage of the images (float32 or float64), of bytes that are not 0 where the
            mask lets through, and of the gradients to be written.
        strides: (5, 4) for these, in elements: by image, channel, row and column. Columns of ``shown`` are neighbours.
        size: height and width.
        jobs: as :func:`split` makes them.
        k: constants, by the names above.
        wants_x, wants_y: which gradients are written; the other's storage isn't touched.
        b: SCRATCH elements, for this call alone.
        results: (jobs, 2) to write to: the sum of 1 − SSIM over the windows that the job counts; and 1 where a value
            that the mask shows is larger than allowed or not finite, else 0.
    """
    sums, others = np.empty(STRIP + 64, dtype=np.float64), np.empty(STRIP + 64, dtype=np.float64)
    height, width = size[0], size[1]
    gradient = wants_x or wants_y
    for number in range(first, last):
        job = jobs[number]
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
        sums[:] = 0.0
        for j in range(pixels):
            b[_LARGEST + j] = k[_ZERO]
            b[_BAD + j] = k[_ZERO]
        if gradient:
            for line in range(U(12)):
                for ring in range(U(4)):
                    _blank(b, _BACK + ring * _RING + line * _P, spread, k)
        for pair in range(((r1 if gradient else w1) + U(11) - w0) // U(2)):
            i = w0 + U(2) * pair
            slot = (U(2) * pair) % U(12) * _P
            _rows_of_pixels(xs, ys, shown, strides, job, i, slot, q0, pixels, k, b)
            _rows_of_pixels(xs, ys, shown, strides, job, i + U(1), slot + _P, q0, pixels, k, b)
            if pair < U(5):
                continue
            r = i - U(10)
            oldest = (U(2) * pair + U(2)) % U(12) * _P
            back = _BACK + oldest
            if r < w1:
                _down_with_squares(b, oldest, _ROWS, whole, k)
                _down_with_squares(b, _S + oldest, _ROWS + U(4) * _P, whole, k)
            for e in range(U(2)):
                if r + e < w1:
                    _moments(b, _ROWS + e * _P, _SUMS, across, k)
                    _moments(b, _ROWS + (U(4) + e) * _P, _SUMS + U(2) * _P, across, k)
                    into = sums if r + e >= counted else others
                    if gradient:
                        _values_and_what_is_spread(b, back + e * _P + U(10), windows, across, k, into)
                    else:
                        _values(b, across, k, into)
                elif gradient:
                    for ring in range(U(4)):
                        _blank(b, back + ring * _RING + e * _P + U(10), windows, k)
            if not gradient or r + U(1) < r0:
                continue
            back = _BACK + (U(2) * pair + U(4)) % U(12) * _P
            _down(b, back + _RING, _ROWS + U(2) * _P, spread, k)
            _down(b, back + U(2) * _RING, _ROWS + U(4) * _P, spread, k)
            if wants_x:
                _down(b, back, _ROWS, spread, k)
            if wants_y:
                _down(b, back + U(3) * _RING, _ROWS + U(6) * _P, spread, k)
            for e in range(U(2)):
                if r + e < r0 or r + e >= r1:
                    continue
                from_v, from_d = _ROWS + (U(2) + e) * _P + (c0 - q0), oldest + e * _P + (c0 - q0)
                if wants_x:
                    means = _ROWS + e * _P + (c0 - q0)
                    _row_of_gradient(
                        by_x, strides[3], shown, strides[2], job, r + e, means, from_v, from_d, k, k[_ONE], b
                    )
                if wants_y:
                    means = _ROWS + (U(6) + e) * _P + (c0 - q0)
                    _row_of_gradient(
                        by_y, strides[4], shown, strides[2], job, r + e, means, from_v, from_d, k, -k[_ONE], b
                    )
        total, bad = 0.0, False
        for j in range(skipped, windows):
            total += sums[j]
        for j in range(pixels):
            bad |= not (b[_LARGEST + j] <= k[_LIMIT] and b[_BAD + j] == k[_ZERO])
        results[number, 0], results[number, 1] = total, 1.0 if bad else 0.0


@_compiled
def split(boxes, channels, bands):
    """Jobs (jobs, 10): image, channel, the box (top, bottom, left, right), and its pixels that are the job's, likewise.

    Args:
        boxes: (boxes, 5) of image, top, bottom, left, right.
        bands: how many parts a box is cut into from top to bottom.
    """
    strips = np.empty(len(boxes), dtype=np.int64)
    for i in range(len(boxes)):
        strips[i] = (boxes[i, 4] - boxes[i, 3] + STRIP - 1) // STRIP
    jobs = np.empty((strips.sum() * bands * channels, 10), dtype=np.uint64)
    count = 0
    for i in range(len(boxes)):
        top, bottom, left, right = boxes[i, 1], boxes[i, 2], boxes[i, 3], boxes[i, 4]
        for channel in range(channels):
            for band in range(bands):
                for strip in range(strips[i]):
                    row = jobs[count]
                    row[0], row[1], row[2], row[3], row[4], row[5] = boxes[i, 0], channel, top, bottom, left, right
                    row[6], row[7] = (
                        top + (bottom - top) * band // bands,
                        top + (bottom - top) * (band + 1) // bands,
                    )
                    row[8] = left + (right - left) * strip // strips[i]
                    row[9] = left + (right - left) * (strip + 1) // strips[i]
                    if row[6] < row[7]:
                        count += 1
    return jobs[:count]


@_compiled
def _tighten(shown, base, width, box):
    """Takes away rows and columns at a box's sides that show nothing; something in it is shown."""
    while not shown[base + box[0] * width + box[2] : base + box[0] * width + box[3]].any():
        box[0] += 1
    while not shown[base + (box[1] - 1) * width + box[2] : base + (box[1] - 1) * width + box[3]].any():
        box[1] -= 1
    while not shown[base + box[0] * width + box[2] : base + box[1] * width + box[2] : width].any():
        box[2] += 1
    while not shown[base + box[0] * width + box[3] - 1 : base + box[1] * width : width].any():
        box[3] -= 1


@_compiled
def scan(mask, background, first, last, height, width, shown, boxes, counts):
    """What the mask shows of images ``first`` to ``last``, and the boxes that hold it; returns whether it has a NaN.

    Args:
        mask: flat, contiguous, of float32 or bytes; foreground is what exceeds ``background``.
        shown: bytes to write to, likewise: 1 where the foreground is, else 0.
        boxes, counts: (images, MOST_BOXES, 4) and (images,) to write to: each image's boxes and their number.
    """
    rows, columns = (height + CELL - 1) // CELL, (width + CELL - 1) // CELL
    occupied = np.empty((rows, columns), dtype=np.bool_)
    below = np.empty(columns * CELL, dtype=np.uint8)
    bad = np.uint8(0)
    for image in range(first, last):
        below[:] = 0
        for i in range(height):
            at = U((image * height + i) * width)
            for j in range(U(width)):
                value = mask[at + j]
                seen = np.uint8(value > background)
                shown[at + j] = seen
                below[j] |= seen
                bad |= np.uint8(value != value)
            if (i + 1) % CELL == 0 or i + 1 == height:
                for column in range(columns):
                    seen = np.uint8(0)
                    for j in range(CELL):
                        seen |= below[column * CELL + j]
                    occupied[i // CELL, column] = seen != 0
                below[:] = 0
        found = boxes[image]
        count = _cell_boxes(occupied, CELL, height, width, found)
        for box in range(count):
            _tighten(shown, image * height * width, width, found[box])
        counts[image] = _merge_boxes(found, count)
    return bad != 0
