"""The forms of SSIM that public losses compute, each in float64, and which of them fits a loss's own values.

A loss of this family is ``a + b·S + c·A + d·Q``: S the mean of an SSIM map, A and Q the mean absolute and squared
error, all of them of the images as the form composites them. The coefficients are found by least squares on a few
probe pairs; a form fits where next to nothing is left over.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from harness.cases.loss_inputs import MaskedPair
from harness.oracle.masked_ssim import C1, C2, gaussian_taps
from harness.oracle.truth import Truth, differentiated

# What a right form leaves over, of the values' size: most losses keep their window in float32, which alone makes 2e-6.
FITS = 1e-5
# Which of 1, S, A and Q are tried together: the fewest first.
_TERMS = ((1,), (2,), (3,), (0, 1), (1, 2), (1, 3), (0, 1, 2), (0, 1, 3), (0, 1, 2, 3))


class Padding(str, enum.Enum):
    """What lies around the image."""

    VALID = "valid"  # nothing: windows wholly inside
    ZERO = "zero-padded"
    REFLECT = "reflect-padded"


class Shown(str, enum.Enum):
    """What a mask makes of both images before they are compared, or of the map after."""

    GREY = "after neutral grey (0.5) where the mask hides"
    ALL = "of the whole images"
    BLACK = "after black where the mask hides"
    WHITE = "after white where the mask hides"
    CENTRES = "averaged over the windows whose centre the mask shows"
    ALIKE = "each window whose centre the mask hides counting as alike"


_OF_WINDOWS = (Shown.CENTRES, Shown.ALIKE)


@dataclass(frozen=True)
class Constants:
    """SSIM's two, which keep its denominators from 0.

    Attributes:
        c1, c2: beside the means and beside the variances.
        data_range: L, whose (0.01·L)² and (0.03·L)² they are; 0 where they are those of none.
    """

    c1: float
    c2: float
    data_range: float = 0.0

    @property
    def words(self) -> str:
        """In a few words."""
        whose = f", those of a data range of {self.data_range:g}" if self.data_range else ""
        return f"C1 = {self.c1:.4g} and C2 = {self.c2:.4g}{whose}"


USUAL = Constants(C1, C2, 1.0)
"""Those of images in [0, 1]."""
_SIGMA = 1.5
# What losses of images in [0, 1] have by mistake: another range's, K1 or K2 not squared, one for the other; or an eps.
_OTHER_CONSTANTS = (
    *(Constants(C1 * data_range**2, C2 * data_range**2, data_range) for data_range in (255.0, 2.0)),
    *(Constants(c1, c2) for c1, c2 in ((0.01, 0.03), (C1, 0.03), (0.01, C2))),
    Constants(C2, C1),
    *(Constants(eps, eps) for eps in (1e-4, 1e-5, 1e-6, 1e-8)),
)
# Side, whether Gaussian, and σ; the most usual first. OpenCV takes a σ of 2, 1.1 and 0.8 for 11, 5 and 3 pixels.
_WINDOWS = tuple(
    (size, gaussian, _SIGMA)
    for size, gaussian in (
        *((11, True), (3, False), (7, False), (11, False)),
        *((7, True), (5, True), (3, True), (9, True), (5, False)),
    )
)
_OTHER_WINDOWS = tuple(
    (size, True, sigma) for size, sigma in ((11, 2.0), (11, 1.0), (7, 1.0), (5, 1.0), (5, 1.1), (3, 1.0), (3, 0.8))
)


@dataclass(frozen=True)
class SsimForm:
    """One way to compute a mean SSIM.

    Attributes:
        padding: of the windows at the edge.
        size: of the window, pixels a side.
        gaussian: of σ ``sigma``, in pixels; else all its pixels weigh alike.
        shown: what the mask does.
        constants: C1 and C2.
        pooled: windows and pixels that the mask shows are averaged over all images at once, not image by image.
    """

    padding: Padding = Padding.VALID
    size: int = 11
    gaussian: bool = True
    shown: Shown = Shown.ALL
    sigma: float = _SIGMA
    constants: Constants = USUAL
    pooled: bool = False

    @property
    def words(self) -> str:
        """In a few words."""
        window = f"{self.size}×{self.size} {'Gaussian' if self.gaussian else 'uniform'} windows"
        if self.gaussian and self.sigma != _SIGMA:
            window += f" of σ {self.sigma:g}"
        constants = "" if self.constants == USUAL else f", {self.constants.words}"
        return f"{self.padding.value} {window}, {self.shown.value}{self._together}{constants}"

    @property
    def of_pixels(self) -> str:
        """What it does with masks, where there are no windows."""
        if self.shown is Shown.CENTRES:
            return f"averaged over the pixels that the mask shows{self._together}"
        return self.shown.value

    @property
    def _together(self) -> str:
        return ", over all images at once" if self.pooled else ""

    @property
    def smallest_side(self) -> int:
        """Pixels that a side must have."""
        return {Padding.VALID: self.size, Padding.ZERO: 1}.get(self.padding, self.size // 2 + 1)

    def parts(self, pair: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """S, A and Q of each image (n,), of float64 renderings, targets and masks; differentiable."""
        return self.parts_of(self.seen(pair))

    def seen(self, pair: tuple[Tensor, Tensor, Tensor]) -> Seen:
        """What the form makes of renderings, targets and masks before its constants come in."""
        x, y, mask = pair
        shown = (mask > 0.5).expand_as(x)
        fill = {Shown.GREY: 0.5, Shown.BLACK: 0.0, Shown.WHITE: 1.0}.get(self.shown)
        if fill is not None:
            x, y = (torch.where(shown, image, torch.full_like(image, fill)) for image in (x, y))
        border = 0 if self.padding is Padding.VALID else self.size // 2
        a, b = x, y
        if border:
            mode = "constant" if self.padding is Padding.ZERO else "reflect"
            a, b = (F.pad(image, (border,) * 4, mode=mode) for image in (x, y))
        height, width = (side - self.size + 1 for side in a.shape[2:])
        # A window in which the images are alike has an SSIM of 1, and no gradient.
        differ = (a != b).flatten(0, 1).any(0)
        rows, columns = (differ.any(axis).nonzero().flatten().tolist() for axis in (1, 0))
        if not rows:
            return Seen(x, y, shown, (height, width), (slice(0), slice(0)), None)
        top, left = max(rows[0] - self.size + 1, 0), max(columns[0] - self.size + 1, 0)
        bottom, right = min(rows[-1] + 1, height), min(columns[-1] + 1, width)
        a, b = (image[:, :, top : bottom + self.size - 1, left : right + self.size - 1] for image in (a, b))
        return Seen(x, y, shown, (height, width), (slice(top, bottom), slice(left, right)), self._moments(a, b))

    def parts_of(self, seen: Seen) -> tuple[Tensor, Tensor, Tensor]:
        """S, A and Q of each image (n,), of what this form or one of other constants has seen."""
        similarity, d = self._map(seen), seen.x - seen.y
        parts = similarity, d.abs(), d.square()
        if self.shown not in _OF_WINDOWS:
            return _means(*parts)
        top, left = ((whole - kept) // 2 for whole, kept in zip(d.shape[2:], seen.windows, strict=True))
        centres = seen.shown[:, :, top : top + seen.windows[0], left : left + seen.windows[1]]
        where = centres, seen.shown, seen.shown
        if self.shown is Shown.ALIKE:
            alike = (1.0, 0.0, 0.0)
            return _means(*(torch.where(*each) for each in zip(where, parts, alike, strict=True)))
        return _means(*parts, where=where, pooled=self.pooled)

    def _map(self, seen: Seen) -> Float[Tensor, "n c p q"]:
        """SSIM at every window."""
        similarity = seen.x.new_ones(*seen.x.shape[:2], *seen.windows)
        if seen.moments is not None:
            c1, c2 = self.constants.c1, self.constants.c2
            mean_a, mean_b, variance_a, variance_b, covariance = seen.moments
            luminance = (2.0 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
            structure = (2.0 * covariance + c2) / (variance_a + variance_b + c2)
            similarity[(..., *seen.place)] = luminance * structure
        return similarity

    def _moments(self, x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"]) -> tuple[Tensor, ...]:
        """Means, variances and covariance, each (n, c, p, q), at the windows wholly inside the images. They are central
        moments: no variance is a difference of large numbers.
        """
        n, c, height, width = x.shape
        window = self._window()
        a, b = (F.unfold(image.reshape(n * c, 1, height, width), self.size) for image in (x, y))
        mean_a, mean_b = ((window * part).sum(1, keepdim=True) for part in (a, b))
        a, b = a - mean_a, b - mean_b
        moments = mean_a, mean_b, *((window * p).sum(1, keepdim=True) for p in (a * a, b * b, a * b))
        return tuple(moment.reshape(n, c, height - self.size + 1, width - self.size + 1) for moment in moments)

    def _window(self) -> Float[Tensor, "pixels 1"]:
        taps = gaussian_taps(self.size, self.sigma) if self.gaussian else torch.ones(self.size, dtype=torch.float64)
        window = torch.outer(taps, taps).flatten()[:, None]
        return window / window.sum()


class Seen(NamedTuple):
    """Images as a form compares them, and the moments of their windows.

    Attributes:
        x, y: (n, c, h, w), composited.
        shown: of their shape, where the mask exceeds 0.5.
        windows: rows and columns of the map of windows.
        place: where in it images differ.
        moments: means, variances and covariance there, each (n, c, p, q); ``None`` where they differ nowhere.
    """

    x: Tensor
    y: Tensor
    shown: Tensor
    windows: tuple[int, int]
    place: tuple[slice, slice]
    moments: tuple[Tensor, ...] | None


def _means(*parts: Tensor, where: Sequence[Tensor] = (), pooled: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Of each image, of all elements or of those ``where`` says; 0 of none. Where ``pooled``, each image has that of
    all.
    """
    if not where:
        first, second, third = (part.flatten(1).mean(1) for part in parts)
        return first, second, third
    counts = [shown.flatten(1).sum(1) for shown in where]
    sums = [torch.where(shown, part, 0.0).flatten(1).sum(1) for shown, part in zip(where, parts, strict=True)]
    if pooled:
        counts, sums = ([one.sum().expand_as(one) for one in each] for each in (counts, sums))
    first, second, third = (total / count.clamp(min=1) for total, count in zip(sums, counts, strict=True))
    return first, second, third


@dataclass(frozen=True)
class Combination:
    """``constant + similarity·S + absolute·A + squared·Q`` of a form."""

    form: SsimForm
    constant: float
    similarity: float
    absolute: float = 0.0
    squared: float = 0.0

    @property
    def formula(self) -> str:
        """In the field's letters."""
        terms = ((self.similarity, "SSIM"), (self.absolute, "L1"), (self.squared, "MSE"))
        written = [f"{self.constant:.4g}"] if self.constant else []
        for factor, name in terms:
            if factor:
                sign = "−" if factor < 0 else "+"
                size = "" if abs(factor) == 1.0 else f"{abs(factor):.4g}·"
                written.append(f"{sign} {size}{name}" if written or factor < 0 else f"{size}{name}")
        return " ".join(written)

    @property
    def lower(self) -> float:
        """The smallest value on images in [0, 1]."""
        return self.constant - abs(self.similarity) + min(0.0, self.absolute) + min(0.0, self.squared)

    @property
    def upper(self) -> float:
        """The largest."""
        return self.constant + abs(self.similarity) + max(0.0, self.absolute) + max(0.0, self.squared)

    @property
    def zero_at_identity(self) -> bool:
        """It and its gradient are zero for equal images, the gradient of an absolute value being taken as 0 at 0."""
        return self.constant + self.similarity == 0.0

    def truth(self, pair: MaskedPair) -> Truth:
        """Its value, the mean over images, and gradient in float64."""
        factors = (self.similarity, self.absolute, self.squared)

        def loss(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
            parts = self.form.parts((x, y, mask))
            total = sum((factor * part.mean() for factor, part in zip(factors, parts, strict=True)), x.sum() * 0.0)
            assert isinstance(total, Tensor)
            return total + self.constant

        return differentiated(pair, loss)


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
        alike = replace(form, shown=Shown.ALL) if form.shown in _OF_WINDOWS else form
        if alike not in looked:
            looked[alike] = alike.seen(pair)
        return looked[alike]

    def of_windows(windows: Iterable[tuple[int, bool, float]]) -> list[SsimForm]:
        return [
            SsimForm(padding, size, gaussian, what, sigma)
            for what, (size, gaussian, sigma), padding in product(shown, windows, Padding)
            if size <= side
        ]

    usual = of_windows(_WINDOWS)
    yield ((form, seen(form)) for form in usual)
    others = [replace(form, constants=constants) for constants, form in product(_OTHER_CONSTANTS, usual)]
    others += of_windows(_OTHER_WINDOWS)
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
