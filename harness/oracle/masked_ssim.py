"""The truth: 1 − SSIM and its gradient in float64, by windows cut out and centred one by one.

Each window's means and central moments are weighted sums over its own 121 pixels, so no variance is a difference of
large numbers, and 1 − SSIM is assembled from the moments of x − y:

    1 − l = (μx − μy)² / (μx² + μy² + C1)
    1 − cs = Σ w ((x − y) − (μx − μy))² / (σx² + σy² + C2)
    1 − l·cs = (1 − l) + (1 − cs) − (1 − l)(1 − cs)

SSIM as in Wang et al. 2004 with their 11×11 Gaussian window of σ 1.5, C1 = 0.01², C2 = 0.03² for images in [0, 1],
windows wholly inside the image.  Shares no code with any subject.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from harness.cases.loss_inputs import MaskedPair
from harness.oracle.truth import Truth, differentiated

C1, C2 = 0.01**2, 0.03**2
_SIZE, _SIGMA = 11, 1.5
_WINDOWS_AT_ONCE = 2**13
# Of fewer, to look for those that differ takes as long as to cut all out.
_WORTH_CUTTING = 2**9


def masked_ssim_truth(pair: MaskedPair, neutral_value: float = 0.5) -> Truth:
    """1 − SSIM of the pair with its hidden pixels set to ``neutral_value``: the mean over windows, channels, images.

    The pair's tensors may have any floating dtype and are taken at their exact values.
    """

    def loss(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        shown, neutral = mask > 0.5, torch.full_like(y, neutral_value)
        return ssim_loss(torch.where(shown, x, neutral), torch.where(shown, y, neutral))

    return differentiated(pair, loss, waits=holds_images_alone(pair.rendering.shape))


def ssim_loss(x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
    """1 − SSIM of two float64 batches, differentiable."""
    one_minus_l, one_minus_cs = window_terms(x, y)
    return (one_minus_l + one_minus_cs - one_minus_l * one_minus_cs).mean()


def window_terms(
    x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"]
) -> tuple[Float[Tensor, "n c windows"], Float[Tensor, "n c windows"]]:
    """1 − l and 1 − cs of every window of two float64 batches, differentiable; windows row by row.

    Every window's pixels take about 6 KB. Of a large batch they are held band by band, and cut out once more for the
    gradient; windows around those that see a difference, in which the images are equal, aren't cut out at all.
    """
    height, width = x.shape[2:]
    windows = _windows(x.shape)
    if windows > _WORTH_CUTTING and (box := _differing(x, y)) is not None:
        rows, columns = box
        within = [
            image[..., rows.start : rows.stop + _SIZE - 1, columns.start : columns.stop + _SIZE - 1] for image in (x, y)
        ]
        margins = (columns.start, width - _SIZE + 1 - columns.stop, rows.start, height - _SIZE + 1 - rows.stop)
        inner = (*x.shape[:2], len(rows), len(columns))
        # Of equal pixels both terms are 0, and so is their gradient: they are squares of the difference.
        terms = _in_bands(*within) if holds_images_alone(x.shape) else window_terms(*within)
        found = (F.pad(term.reshape(inner), margins).flatten(2) for term in terms)
        return next(found), next(found)
    return _in_bands(x, y) if holds_images_alone(x.shape) else _window_terms(x, y)


def holds_images_alone(shape: Sequence[int]) -> bool:
    """Whether the graph of :func:`window_terms` of batches of this shape, (n, c, h, w), holds no window's pixels."""
    return _windows(shape) > _WINDOWS_AT_ONCE


def _windows(shape: Sequence[int]) -> int:
    n, c, height, width = shape
    return n * c * (height - _SIZE + 1) * (width - _SIZE + 1)


def _in_bands(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    terms = _InBands.apply(*(image.reshape(-1, 1, *image.shape[2:]) for image in (x, y)))
    one_minus_l, one_minus_cs = (term.reshape(*x.shape[:2], -1) for term in terms)
    return one_minus_l, one_minus_cs


def _differing(x: Tensor, y: Tensor) -> tuple[range, range] | None:
    """Rows and columns of the windows that see a pixel in which the images differ, or of one where none does; ``None``
    where that is all of them.
    """
    differ = (x != y).flatten(0, 1).any(0)
    windows = []
    for across, side in ((1, x.shape[2]), (0, x.shape[3])):
        where = differ.any(across).nonzero().flatten().tolist()
        if not where:
            return range(1), range(1)
        windows.append(range(max(0, where[0] - _SIZE + 1), min(where[-1], side - _SIZE) + 1))
    rows, columns = windows
    whole = len(rows) == x.shape[2] - _SIZE + 1 and len(columns) == x.shape[3] - _SIZE + 1
    return None if whole else (rows, columns)


class _InBands(torch.autograd.Function):
    """:func:`_window_terms` of (planes, 1, h, w), some planes and rows at a time, forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, y)
        rows, columns = (side - _SIZE + 1 for side in x.shape[2:])
        terms = x.new_empty(2, x.shape[0], 1, rows * columns)
        for planes, top, bottom in _bands(x.shape):
            found = _window_terms(*(image[planes, :, top : bottom + _SIZE - 1] for image in (x, y)))
            terms[:, planes, :, top * columns : bottom * columns] = torch.stack(found)
        return terms[0], terms[1]

    @staticmethod
    def backward(ctx: Any, *by_terms: Tensor) -> tuple[Tensor, Tensor]:
        images, columns = ctx.saved_tensors, ctx.saved_tensors[0].shape[3] - _SIZE + 1
        gradients = tuple(torch.zeros_like(image) for image in images)
        for planes, top, bottom in _bands(images[0].shape):
            pixels = (planes, slice(None), slice(top, bottom + _SIZE - 1))
            windows = (planes, slice(None), slice(top * columns, bottom * columns))
            with torch.enable_grad():
                parts = [image[pixels].detach().requires_grad_() for image in images]
                terms = _window_terms(*parts)
            for gradient, part in zip(
                gradients, torch.autograd.grad(terms, parts, [g[windows] for g in by_terms]), strict=True
            ):
                gradient[pixels] += part
        return gradients[0], gradients[1]


def _bands(shape: torch.Size) -> Iterator[tuple[slice, int, int]]:
    """Planes, and the first row of windows and the one after the last, of about ``_WINDOWS_AT_ONCE`` windows each."""
    rows, columns = (side - _SIZE + 1 for side in shape[2:])
    together = max(1, _WINDOWS_AT_ONCE // columns)
    some = min(together, shape[0])
    band = max(1, together // some)
    for first in range(0, shape[0], some):
        for top in range(0, rows, band):
            yield slice(first, first + some), top, min(top + band, rows)


def _window_terms(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    window = gaussian_window()
    planes = x.shape[0] * x.shape[1]
    # (planes, 121, windows): every window's pixels.
    a, b = (F.unfold(image.reshape(planes, 1, *image.shape[2:]), _SIZE) for image in (x, y))
    d = a - b
    mean_a, mean_b, mean_d = ((window * part).sum(1, keepdim=True) for part in (a, b, d))
    variance_a, variance_b, variance_d = (
        (window * (part - mean).square()).sum(1, keepdim=True) for part, mean in ((a, mean_a), (b, mean_b), (d, mean_d))
    )
    one_minus_l = mean_d.square() / (mean_a.square() + mean_b.square() + C1)
    one_minus_cs = variance_d / (variance_a + variance_b + C2)
    return one_minus_l.reshape(*x.shape[:2], -1), one_minus_cs.reshape(*x.shape[:2], -1)


@functools.cache
def gaussian_window() -> Float[Tensor, "121 1"]:
    """The window's weights, row by row, float64, of sum 1; always the same tensor, which nobody writes into."""
    taps = gaussian_taps(_SIZE)
    window = torch.outer(taps, taps).flatten()[:, None]
    return window / window.sum()


@functools.cache
def gaussian_taps(size: int, sigma: float = _SIGMA) -> Float[Tensor, " size"]:
    """A Gaussian at so many pixels, float64, 1 in the middle; always the same tensor of a size and a σ, in pixels."""
    return torch.exp(-((torch.arange(size, dtype=torch.float64) - size // 2) ** 2) / (2 * sigma**2))
