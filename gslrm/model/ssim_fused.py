"""1 − SSIM and its gradients by the compiled pass of :mod:`gslrm.model.ssim_numba`, on torch's own threads.

What a call works on is its own, so that several callers at once share nothing. Numba's threads are not used.
"""

from __future__ import annotations

import array
import functools
import importlib
import os
import threading
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

from gslrm.model.foreground_boxes import REACH
from gslrm.model.gaussian_window import window_taps
from gslrm.model.image_checks import has_nan
from gslrm.model.ssim_difference import SsimConstants
from gslrm.model.torch_threads import run_on_threads

# What a thread must have to do to be worth it, in pixels that the pass runs over, and that a mask's scan does.
_PIXELS_FOR_A_THREAD = 1 << 14
_SCANNED_FOR_A_THREAD = 1 << 17
_LOWEST_BAND = 64

_loading = threading.RLock()
if hasattr(os, "register_at_fork"):
    # A child that is forked while another thread compiles would wait for it for ever.
    os.register_at_fork(before=_loading.acquire, after_in_parent=_loading.release, after_in_child=_loading.release)


class FusedLoss(NamedTuple):
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
_pass: ModuleType | None = None
_masks: ModuleType | None = None
_ready: set[torch.dtype] = set()
# Of earlier calls, for so many threads and images of so many bits.
_scratch: dict[tuple[int, int], list[Tensor]] = {}


def why_not_fused() -> str:
    """Why the compiled pass can't be had, in a few words; empty where it can. Imports Numba, the first time."""
    global _why_not, _pass, _masks
    if _why_not is None:
        with _loading:
            try:
                _pass = importlib.import_module("gslrm.model.ssim_numba")
                _masks = importlib.import_module("gslrm.model.mask_numba")
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
        x, y: of float32 or of float64, both, on the CPU, sides of 11 pixels at least, of any strides; they and the mask
            are read as they lie in memory, whatever ``is_neg()`` says.
        mask: ``None`` shows everything.
        wants_x, wants_y: which gradients to calculate; both take two passes.
        limit: of |x| and |y| where the mask shows them; beyond it they are ``suspicious``.

    Raises:
        RuntimeError: there is no compiled pass (:func:`why_not_fused`), or a tensor has no memory of its own.
    """
    if why_not_fused():
        raise RuntimeError(f"the compiled pass of the SSIM loss can't be had: {_why_not}.")
    if x.dtype not in _ready:
        _warm(x.dtype)
    return _fused(x, y, mask, constants, wants_x, wants_y, limit)


def _warm(dtype: torch.dtype) -> None:
    """Compiles for this dtype, or reads what was compiled, while no other thread forks or compiles."""
    with _loading:
        picture = torch.zeros(1, 1, 11, 11, dtype=dtype, device="cpu")
        for kind in (torch.float32, torch.bool):
            mask = torch.ones(1, 1, 11, 11, dtype=kind, device="cpu")
            _fused(picture, picture, mask, SsimConstants.of(1.0, offset=1.0), True, True, 1.0)
        _ready.add(dtype)


def _fused(
    x: Tensor, y: Tensor, mask: Tensor | None, constants: SsimConstants, wants_x: bool, wants_y: bool, limit: float
) -> FusedLoss:
    assert _pass is not None
    assert _masks is not None
    n, c, h, w = x.shape
    threads = torch.get_num_threads()
    shown, boxes, counts, nan_in_mask = _shown(mask, n, h, w, threads)
    # What only addresses are used of is held until the pass is over.
    _table, results, (jobs, of_table, of_results, area, threads) = _masks.plan(
        boxes, counts, c, threads, _PIXELS_FOR_A_THREAD, _pass.STRIP, _LOWEST_BAND, REACH
    )
    bits = 64 if x.dtype == torch.float64 else 32
    windows = n * c * (h - REACH) * (w - REACH)
    _k, of_constants = _constants(constants, windows, limit, bits)
    fixed = shown.data_ptr(), of_table, of_constants, of_results
    spare = _scratch.setdefault((threads, bits), [])
    try:
        scratch = spare.pop()
    except IndexError:
        scratch = torch.zeros(threads * _pass.SCRATCH, dtype=x.dtype, device="cpu")
    of_shown = (h * w if mask is not None else 0, 0, w, 1)

    def gradient(image: Tensor, other: Tensor, wanted: bool) -> Tensor | None:
        found = None
        if wanted:
            found = torch.empty_like(image) if area == n * h * w else torch.zeros_like(image)
        to = image if found is None else found
        addresses = _address(image), _address(other), *fixed, scratch.data_ptr(), _address(to)
        strides = *image.stride(), *other.stride(), *of_shown, *to.stride()
        # In the order of CALL.
        call = array.array("q", (0, 0, jobs, wanted, *addresses, h, w, *strides))
        run_on_threads(_pass.task(bits), call.buffer_info()[0], threads)
        return found

    # The loss is the same with its images exchanged.
    by_y = gradient(y, x, True) if wants_y else None
    by_x = gradient(x, y, wants_x) if wants_x or not wants_y else None
    spare.append(scratch)
    total, suspicious = _masks.total(results)
    value = total / windows
    # Rounding alone takes it out of the range.
    value = min(max(value, 0.0), 2.0) if value == value else value
    return FusedLoss(value, by_x, by_y, nan_in_mask, suspicious)


@functools.lru_cache(maxsize=64)
def _constants(constants: SsimConstants, windows: int, limit: float, bits: int) -> tuple[NDArray, int]:
    """A pass's constants, and their address."""
    assert _pass is not None
    c = constants
    numbers = [*window_taps()[: _pass.TAPS], 0.0, c.offset, 1.0, 0.5, c.c1, c.c2, 1 / windows, limit]
    found = np.array(numbers, dtype=f"f{bits // 8}")
    return found, int(found.ctypes.data)


def _address(tensor: Tensor) -> int:
    address = tensor.data_ptr()
    if address == 0:
        raise RuntimeError("the compiled pass of the SSIM loss takes tensors with memory alone.")
    return address


def _shown(
    mask: Tensor | None, n: int, h: int, w: int, threads: int
) -> tuple[Tensor, NDArray[np.int64], NDArray[np.int64], bool]:
    """Bytes that are 1 where the mask shows, the boxes that hold these pixels and their numbers; whether it has a NaN.

    Without a mask the bytes are one image's, for all.
    """
    assert _masks is not None
    if mask is None:
        boxes = np.empty((n, 1, 4), dtype=np.int64)
        boxes[:] = 0, h, 0, w
        return torch.ones(h * w, dtype=torch.uint8, device="cpu"), boxes, np.ones(n, dtype=np.int64), False
    nan = False
    if mask.dtype not in (torch.float32, torch.bool):
        nan = has_nan(mask)
        mask = mask > 0.5
    mask = mask.contiguous()
    shown = torch.empty(n * h * w, dtype=torch.uint8, device="cpu")
    boxes, counts = np.empty((n, _masks.MOST_BOXES, 4), dtype=np.int64), np.empty(n, dtype=np.int64)
    # In the order of SCAN; the last is 1 then where the mask has a NaN.
    addresses = _address(mask), shown.data_ptr(), boxes.ctypes.data, counts.ctypes.data
    scan = array.array("q", (0, n, h, w, *addresses, 0))
    task = _masks.scan(8 if mask.dtype == torch.bool else 32)
    run_on_threads(task, scan.buffer_info()[0], max(1, min(threads, n * h * w // _SCANNED_FOR_A_THREAD)))
    return shown, boxes, counts, nan or scan[-1] != 0
