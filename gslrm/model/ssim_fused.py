"""1 − SSIM and its gradients by the compiled pass of :mod:`gslrm.model.ssim_numba`, on as many threads as torch takes.

The threads are made for the call and gone after it: none is left that a fork would lose, and two callers at once share
nothing. Numba's own threads are not used.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

from gslrm.model.foreground_boxes import REACH
from gslrm.model.gaussian_window import window_taps
from gslrm.model.ssim_difference import SsimConstants

# What a thread must have to do to be worth its start, in pixels that the pass runs over, and that a mask's scan does.
_PIXELS_FOR_A_THREAD = 1 << 15
_SCANNED_FOR_A_THREAD = 1 << 18
_LOWEST_BAND = 64

_loading = threading.RLock()
if hasattr(os, "register_at_fork"):
    # A child that is forked while another thread compiles would wait for it for ever.
    os.register_at_fork(before=_loading.acquire, after_in_parent=_loading.release, after_in_child=_loading.release)


@dataclass(frozen=True)
class FusedLoss:
    """What a pass gave.

    Attributes:
        value: in [0, 2], or NaN.
        by_x, by_y: the gradients that were wanted.
        nan_in_mask: the mask holds a NaN.
        suspicious: a value that counts is not finite, or larger than was allowed.
    """

    value: float
    by_x: Float[Tensor, "n c h w"] | None
    by_y: Float[Tensor, "n c h w"] | None
    nan_in_mask: bool
    suspicious: bool


_why_not: str | None = None
_compiled: ModuleType | None = None
_ready: set[torch.dtype] = set()
_scratch: dict[torch.dtype, list[NDArray]] = {torch.float32: [], torch.float64: []}


def why_not_fused() -> str:
    """Why the compiled pass can't be had, in a few words; empty where it can. Imports Numba, the first time."""
    global _why_not, _compiled
    if _why_not is None:
        with _loading:
            try:
                _compiled = importlib.import_module("gslrm.model.ssim_numba")
                _why_not = ""
            except Exception as error:
                missing = isinstance(error, ModuleNotFoundError) and error.name == "numba"
                _why_not = "numba is not installed" if missing else f"numba can't be imported ({error})"
    return _why_not


def fused_ssim_loss(
    x: Float[Tensor, "n c h w"],
    y: Float[Tensor, "n c h w"],
    mask: Shaped[Tensor, "n 1 h w"] | None,
    constants: SsimConstants,
    *,
    wants_x: bool,
    wants_y: bool,
    limit: float = float("inf"),
) -> FusedLoss:
    """The mean over windows, channels and images of 1 − SSIM.

    Where the mask doesn't exceed 0.5 both images count as half of ``constants.offset``.

    Args:
        x, y: of float32 or of float64, both, on the CPU, sides of 11 pixels at least, of any strides.
        mask: ``None`` shows everything.
        wants_x, wants_y: which gradients to calculate.
        limit: of |x| and |y| where the mask shows them; beyond it they are ``suspicious``.

    Raises:
        RuntimeError: there is no compiled pass (:func:`why_not_fused`).
    """
    if why_not_fused():
        raise RuntimeError(f"the compiled pass of the SSIM loss can't be had: {_why_not}.")
    if x.dtype not in _ready:
        _warm(x.dtype)
    return _fused(x, y, mask, constants, wants_x, wants_y, limit)


def _warm(dtype: torch.dtype) -> None:
    """Compiles for this dtype, or reads what was compiled, while no other thread forks or compiles."""
    with _loading:
        picture = torch.zeros(1, 1, 11, 11, dtype=dtype)
        for mask in (torch.ones(1, 1, 11, 11), torch.ones(1, 1, 11, 11, dtype=torch.bool)):
            _fused(picture, picture, mask, SsimConstants.of(1.0, offset=1.0), True, True, 1.0)
        _ready.add(dtype)


def _fused(
    x: Tensor, y: Tensor, mask: Tensor | None, constants: SsimConstants, wants_x: bool, wants_y: bool, limit: float
) -> FusedLoss:
    kernels = _compiled
    assert kernels is not None
    n, c, h, w = x.shape
    count = n * c * (h - 10) * (w - 10)
    threads = torch.get_num_threads()
    shown, boxes, nan_in_mask = _shown(mask, n, h, w, threads)
    rows, columns = boxes[:, 2] - boxes[:, 1], boxes[:, 4] - boxes[:, 3]
    area = int((rows * columns).sum())
    # Around a box is what its windows see.
    run_over = c * int(((rows + 2 * REACH) * (columns + 2 * REACH)).sum())
    threads = max(1, min(threads, run_over // _PIXELS_FOR_A_THREAD))
    bands = 1
    if threads > 1 and 2 * threads > len(boxes) * c:
        bands = max(1, min(-(-2 * threads // (len(boxes) * c)), int(rows.max()) // _LOWEST_BAND))
    jobs = kernels.split(boxes, c, bands)

    whole = area == n * h * w
    by_x, by_y = (_room_for(image, whole) if wanted else None for image, wanted in ((x, wants_x), (y, wants_y)))
    kind = np.float64 if x.dtype == torch.float64 else np.float32
    storages, strides = [], np.empty((5, 4), dtype=np.uint64)
    for i, tensor in enumerate((x, y, shown, by_x, by_y)):
        if isinstance(tensor, Tensor):
            storages.append(_flat(tensor))
            strides[i] = tensor.stride()
        elif tensor is None:
            storages.append(_NOTHING[kind])
        else:
            storages.append(tensor)
            strides[i] = (h * w if mask is not None else 0, 0, w, 1)
    numbers = [
        *window_taps()[: kernels.TAPS],
        0.0,
        constants.offset,
        1.0,
        0.5,
        constants.c1,
        constants.c2,
        1 / count,
        limit,
    ]
    k = np.array(numbers, dtype=kind)
    results = np.zeros((len(jobs), 2))
    size = np.array((h, w), dtype=np.uint64)
    spare = _scratch[x.dtype]

    def work(first: int, last: int) -> None:
        try:
            scratch = spare.pop()
        except IndexError:
            scratch = np.zeros(kernels.SCRATCH, dtype=kind)
        kernels.run_jobs(*storages, strides, size, jobs, first, last, k, wants_x, wants_y, scratch, results)
        spare.append(scratch)

    _in_threads(work, len(jobs), threads)
    value = float(results[:, 0].sum()) / count
    # Rounding alone takes it out of the range.
    value = min(max(value, 0.0), 2.0) if value == value else value
    return FusedLoss(value, by_x, by_y, nan_in_mask, bool(results[:, 1].any()))


_NOTHING = {kind: np.zeros(1, dtype=kind) for kind in (np.float32, np.float64)}


def _shown(
    mask: Tensor | None, n: int, h: int, w: int, threads: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64], bool]:
    """Flat bytes that are 1 where the mask shows, the boxes that hold these pixels, and whether the mask has a NaN.

    Without a mask the bytes are one image's, for all.
    """
    if mask is None:
        return np.ones(h * w, dtype=np.uint8), np.array([(i, 0, h, 0, w) for i in range(n)], dtype=np.int64), False
    kernels = _compiled
    assert kernels is not None
    nan = False
    if mask.dtype not in (torch.float32, torch.bool):
        nan = mask.is_floating_point() and bool(mask.isnan().any())
        mask = mask > 0.5
    background = np.uint8(0) if mask.dtype == torch.bool else np.float32(0.5)
    flat = mask.detach().contiguous().view(-1).numpy()
    if mask.dtype == torch.bool:
        flat = flat.view(np.uint8)
    shown = np.empty(n * h * w, dtype=np.uint8)
    boxes, counts = np.empty((n, kernels.MOST_BOXES, 4), dtype=np.int64), np.empty(n, dtype=np.int64)
    found = []

    def work(first: int, last: int) -> None:
        found.append(kernels.scan(flat, background, first, last, h, w, shown, boxes, counts))

    _in_threads(work, n, max(1, min(threads, n * h * w // _SCANNED_FOR_A_THREAD)))
    images = np.repeat(np.arange(n), counts)
    places = np.arange(len(images)) - np.repeat(np.cumsum(counts) - counts, counts)
    return shown, np.column_stack((images, boxes[images, places])), nan or any(found)


def _in_threads(work: Callable[[int, int], None], jobs: int, threads: int) -> None:
    """Calls ``work`` with ranges that together are ``range(jobs)``, in this thread and ``threads`` − 1 more."""
    if threads == 1:
        work(0, jobs)
        return
    chunk = max(1, jobs // (4 * threads))
    starts = itertools.count(0, chunk)
    errors: list[BaseException] = []

    def take() -> None:
        try:
            while (first := next(starts)) < jobs:
                work(first, min(first + chunk, jobs))
        except BaseException as error:
            errors.append(error)

    others = [threading.Thread(target=take, daemon=True) for _ in range(threads - 1)]
    for other in others:
        other.start()
    take()
    for other in others:
        other.join()
    if errors:
        raise errors[0]


def _flat(tensor: Tensor) -> NDArray:
    """The tensor's storage from its first element to its last."""
    span = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    flat: NDArray = tensor.detach().as_strided((span,), (1,), tensor.storage_offset()).numpy()
    return flat


def _room_for(image: Tensor, whole: bool) -> Tensor:
    """An uninitialised gradient of the image, laid out like it; zeros where not the ``whole`` of it will be written."""
    if whole:
        return torch.empty_like(image)
    if image.is_contiguous():
        # NumPy has the system give zeros page by page, as they are touched.
        return torch.from_numpy(np.zeros(image.shape, dtype=np.float64 if image.dtype == torch.float64 else np.float32))
    return torch.zeros_like(image)
