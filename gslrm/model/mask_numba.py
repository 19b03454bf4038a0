"""What a mask shows, and the jobs that the compiled pass of the SSIM loss makes of it, compiled by Numba."""

from __future__ import annotations

import functools

import numpy as np
from numba import carray

from gslrm.model import foreground_boxes
from gslrm.model.numba_tasks import compiled, compiled_alone, compiled_task, pointer, sources_digest, take_number

U = np.uint64
CELL = 16
JOB = 10
"""Numbers that a job is: image, channel, a box (top, bottom, left, right), and its pixels that are the job's."""
MOST_BOXES = foreground_boxes.MOST_BOXES

SCAN = np.dtype(
    [(name, "i8") for name in ("next_image", "images", "height", "width", "mask", "shown", "boxes", "counts", "bad")]
)
"""What a scan is given. Of what is not said here to be something else, the address.

Attributes:
    next_image: 0 at first.
    images, height, width: the mask's size.
    mask: contiguous, of float32 or bytes; foreground is what exceeds 0.5, or 0.
    shown: bytes to write to, likewise: 1 where the foreground is, else 0.
    boxes, counts: (images, MOST_BOXES, 4) and (images,) of 64 bits to write to: each image's boxes and their number.
    bad: no address: not 0 in the end where the mask has a NaN.
"""

_cell_boxes = compiled(foreground_boxes.cell_boxes)
_merge_boxes = compiled(foreground_boxes.merge_boxes)


@compiled_alone
def plan(boxes, counts, channels, threads, pixels_for_a_thread, strip_columns, lowest_band, reach):
    """The jobs (at least as many as there are, JOB) that boxes make, and room for their results (jobs, 2).

    And: how many jobs there are, the addresses of both, how many pixels are in the boxes, and how many threads have
    enough to do.

    Args:
        boxes, counts: as a scan writes them.
        threads: how many there may be.
        pixels_for_a_thread: that a thread must have to run over to be worth it.
        strip_columns: the widest job.
        lowest_band: rows that a job must have where boxes are cut into bands, one below the other, for want of jobs.
        reach: how far around a box its windows see.
    """
    area, run_over, columns, tallest = 0, 0, 0, 0
    for image in range(len(counts)):
        for box in boxes[image, : counts[image]]:
            height, width = box[1] - box[0], box[3] - box[2]
            area += height * width
            run_over += (height + 2 * reach) * (width + 2 * reach) * channels
            columns += (width + strip_columns - 1) // strip_columns * channels
            tallest = max(tallest, height)
    threads = max(1, min(threads, run_over // pixels_for_a_thread))
    bands = 1
    if threads > 1 and columns < 2 * threads:
        bands = max(1, min((2 * threads + columns - 1) // columns, tallest // lowest_band))
    jobs = np.empty((columns * bands, JOB), dtype=U)
    count = 0
    for image in range(len(counts)):
        for top, bottom, left, right in boxes[image, : counts[image]]:
            strips = (right - left + strip_columns - 1) // strip_columns
            for channel in range(channels):
                for band in range(bands):
                    for strip in range(strips):
                        row = jobs[count]
                        row[0], row[1], row[2], row[3], row[4], row[5] = image, channel, top, bottom, left, right
                        row[6] = top + (bottom - top) * band // bands
                        row[7] = top + (bottom - top) * (band + 1) // bands
                        row[8] = left + (right - left) * strip // strips
                        row[9] = left + (right - left) * (strip + 1) // strips
                        if row[6] < row[7]:
                            count += 1
    results = np.zeros((count, 2))
    return jobs, results, (count, jobs.ctypes.data, results.ctypes.data, area, threads)


@compiled_alone
def total(results):
    """The sum of the jobs' sums, and whether one of them is suspicious, of what they have written (jobs, 2)."""
    found, suspicious = 0.0, False
    for job in range(len(results)):
        found += results[job, 0]
        suspicious |= results[job, 1] != 0
    return found, suspicious


@compiled
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


@compiled
def _look(mask, background, image, height, width, shown, boxes):
    """What the mask shows of one image: how many boxes hold it, and whether the mask has a NaN."""
    rows, columns = (height + CELL - 1) // CELL, (width + CELL - 1) // CELL
    occupied = np.empty((rows, columns), dtype=np.bool_)
    below = np.zeros(columns * CELL, dtype=np.uint8)
    bad = np.uint8(0)
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
    count = _cell_boxes(occupied, CELL, height, width, boxes)
    for box in range(count):
        _tighten(shown, image * height * width, width, boxes[box])
    return _merge_boxes(boxes, count), bad


@functools.cache
def scan(bits: int) -> int:
    """The address of the task that looks at a mask of floats of 32 bits or of bytes, image by image."""
    kind = np.float32 if bits == 32 else np.uint8
    background, version = kind(0.5 if bits == 32 else 0), sources_digest(foreground_boxes)

    def scan_images(data):
        if not version:  # as in ssim_numba.task
            return
        given = carray(data, 1)[0]
        images, height, width = given.images, given.height, given.width
        mask = carray(pointer(given.mask), 1, kind)
        shown = carray(pointer(given.shown), images * height * width, np.uint8)
        boxes = carray(pointer(given.boxes), (images, MOST_BOXES, 4), np.int64)
        counts = carray(pointer(given.counts), images, np.int64)
        while True:
            image = take_number(data, 0)
            if image >= images:
                break
            counts[image], bad = _look(mask, background, image, height, width, shown, boxes[image])
            if bad:
                given.bad = 1

    return compiled_task(scan_images, SCAN)
