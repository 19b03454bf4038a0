"""Which form of SSIM fits a loss's own values.

The coefficients of ``a + b·S + c·A + d·Q`` (:mod:`harness.oracle.ssim_forms`) are found by least squares on a few probe
pairs; a form fits where next to nothing is left over.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from harness.cases.loss_inputs import MaskedPair
from harness.oracle.masked_ssim import C1, C2
from harness.oracle.ssim_forms import (
    OF_WINDOWS,
    USUAL,
    USUAL_SIGMA,
    Combination,
    Constants,
    Padding,
    Seen,
    Shown,
    SsimForm,
)

# What a right form leaves over, of the values' size: most losses keep their window in float32, which alone makes 2e-6.
FITS = 1e-5
# Which of 1, S, A and Q are tried together: the fewest first.
_TERMS = ((1,), (2,), (3,), (0, 1), (1, 2), (1, 3), (0, 1, 2), (0, 1, 3), (0, 1, 2, 3))
# What losses of images in [0, 1] have by mistake: another range's, K1 or K2 not squared, one for the other; or an eps.
_OTHER_CONSTANTS = (
    *(Constants(C1 * data_range**2, C2 * data_range**2, data_range) for data_range in (255.0, 2.0)),
    *(Constants(c1, c2) for c1, c2 in ((0.01, 0.03), (C1, 0.03), (0.01, C2))),
    Constants(C2, C1),
    *(Constants(eps, eps) for eps in (1e-4, 1e-5, 1e-6, 1e-8)),
)
WINDOWS = tuple(
    (size, gaussian, USUAL_SIGMA)
    for size, gaussian in (
        *((11, True), (3, False), (7, False), (11, False)),
        *((7, True), (5, True), (3, True), (9, True), (5, False)),
    )
)
"""Side, whether Gaussian, and σ; the most usual first."""
OTHER_WINDOWS = tuple(
    (size, True, sigma) for size, sigma in ((11, 2.0), (11, 1.0), (7, 1.0), (5, 1.0), (5, 1.1), (3, 1.0), (3, 0.8))
)
"""Likewise, tried where none of the usual fits. OpenCV takes a σ of 2, 1.1 and 0.8 for 11, 5 and 3 pixels."""


@dataclass(frozen=True)
class Fit:
    """A combination, and the largest error that it leaves on the probes, of their values' size."""

    combination: Combination
    error: float


def fitting(
    probes: MaskedPair, values: Sequence[float], masked: bool, tolerance: float = FITS
) -> tuple[Fit | None, Fit | None]:
    """The form that fits the loss's values on the probes' images, and the one that comes nearest.

    It is the first that fits to 1e-5, or else the one that fits best; one of other constants, or of Gaussian windows of
    another σ, only where none of the usual ones does.

    Args:
        probes: a batch; the loss was called on each of its images by itself.
        masked: the loss gets to see the mask.
        tolerance: of the values' size, what may be left over.
    """
    target = torch.tensor(values, dtype=torch.float64)
    if not bool(torch.isfinite(target).all()):
        return None, None
    size = float(target.abs().max()) or 1.0
    nearest: Fit | None = None
    for forms in _forms(probes, masked):
        loose: list[Fit] = []
        for form, seen in forms:
            columns = torch.stack([torch.ones_like(target), *form.parts_of(seen)], 1)
            most = _least_squares(form, columns, _TERMS[-1], target, size, tolerance)
            if nearest is None or most.error < nearest.error:
                nearest = most
            # Of fewer terms no sum of squares is smaller.
            if most.error > tolerance * math.sqrt(len(values)):
                continue
            fits = (_least_squares(form, columns, terms, target, size, tolerance) for terms in _TERMS)
            fit = next((fit for fit in fits if fit.error <= tolerance), None)
            if fit is not None and fit.error <= FITS:
                return fit, fit
            loose += [fit] if fit is not None else []
        if loose:
            best = min(loose, key=lambda fit: fit.error)
            return best, best
    return None, nearest


def _forms(probes: MaskedPair, masked: bool) -> Iterator[Iterable[tuple[SsimForm, Seen]]]:
    """The usual ones and then the others, each with what it sees of the probes."""
    pair = probes.rendering.double(), probes.target.double(), probes.mask.double()
    side = min(probes.rendering.shape[2:])
    shown = tuple(Shown) if masked else (Shown.ALL,)
    looked: dict[SsimForm, Seen] = {}

    def seen(form: SsimForm) -> Seen:
        # Where the mask comes in after the map, the images are whole.
        alike = replace(form, shown=Shown.ALL) if form.shown in OF_WINDOWS else form
        if alike not in looked:
            looked[alike] = alike.seen(pair)
        return looked[alike]

    def of_windows(windows: Iterable[tuple[int, bool, float]]) -> list[SsimForm]:
        return [
            SsimForm(padding, size, gaussian, what, sigma)
            for what, (size, gaussian, sigma), padding in product(shown, windows, Padding)
            if size <= side
        ]

    usual = of_windows(WINDOWS)
    yield ((form, seen(form)) for form in usual)
    others = [replace(form, constants=constants) for constants, form in product(_OTHER_CONSTANTS, usual)]
    others += of_windows(OTHER_WINDOWS)
    yield ((form, seen(replace(form, constants=USUAL))) for form in others)


def _least_squares(
    form: SsimForm, columns: Tensor, terms: Sequence[int], target: Tensor, size: float, tolerance: float
) -> Fit:
    """The coefficients of these terms, rounded to the fewest digits that still fit."""
    solution = torch.linalg.lstsq(columns[:, list(terms)], target[:, None]).solution[:, 0]
    exact = torch.zeros(columns.shape[1], dtype=torch.float64)
    exact[list(terms)] = solution

    def fit(factors: Tensor) -> Fit:
        error = float((columns @ factors - target).abs().max()) / size
        return Fit(Combination(form, *factors.tolist()), error)

    found = fit(exact)
    # What leaves over more than is tolerated may still be rounded to what doesn't, by little.
    if found.error > tolerance * len(target):
        return found
    rounded = (fit(torch.round(exact, decimals=decimals)) for decimals in (1, 2, 3, 4, 6))
    return next((short for short in rounded if short.error <= tolerance), found)
