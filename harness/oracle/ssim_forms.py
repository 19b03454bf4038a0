"""The forms of SSIM that public losses compute, each in float64, and which of them fits a loss's own values.

A loss of this family is ``a + b·S + c·A + d·Q``: S the mean of an SSIM map, A and Q the mean absolute and squared
error, all of them of the images as the form composites them. The coefficients are found by least squares on a few
probe pairs; a form fits where next to nothing is left over.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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

    ALL = "of the whole images"
    GREY = "after neutral grey (0.5) where the mask hides"
    BLACK = "after black where the mask hides"
    WHITE = "after white where the mask hides"
    CENTRES = "averaged over the windows whose centre the mask shows"


@dataclass(frozen=True)
class SsimForm:
    """One way to compute a mean SSIM.

    Attributes:
        padding: of the windows at the edge.
        size: of the window, pixels a side.
        gaussian: of σ 1.5; else all its pixels weigh alike.
        shown: what the mask does.
    """

    padding: Padding = Padding.VALID
    size: int = 11
    gaussian: bool = True
    shown: Shown = Shown.ALL

    @property
    def words(self) -> str:
        """In a few words."""
        window = f"{self.size}×{self.size} {'Gaussian' if self.gaussian else 'uniform'} windows"
        return f"{self.padding.value} {window}, {self.shown.value}"

    @property
    def smallest_side(self) -> int:
        """Pixels that a side must have."""
        return {Padding.VALID: self.size, Padding.ZERO: 1}.get(self.padding, self.size // 2 + 1)

    def parts(self, pair: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """S, A and Q of each image (n,), of float64 renderings, targets and masks; differentiable."""
        x, y, mask = pair
        shown = (mask > 0.5).expand_as(x)
        fill = {Shown.GREY: 0.5, Shown.BLACK: 0.0, Shown.WHITE: 1.0}.get(self.shown)
        if fill is not None:
            x, y = (torch.where(shown, image, torch.full_like(image, fill)) for image in (x, y))
        similarity = self._map(x, y)
        d = x - y
        if self.shown is Shown.CENTRES:
            lost = (x.shape[2] - similarity.shape[2]) // 2
            inner = shown[:, :, lost : lost + similarity.shape[2], lost : lost + similarity.shape[3]]
            return _mean(similarity, inner), _mean(d.abs(), shown), _mean(d.square(), shown)
        return tuple(part.flatten(1).mean(1) for part in (similarity, d.abs(), d.square()))  # type: ignore[return-value]

    def _map(self, x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c p q"]:
        """SSIM at every window, from central moments: no variance is a difference of large numbers."""
        border = 0 if self.padding is Padding.VALID else self.size // 2
        if border:
            mode = "constant" if self.padding is Padding.ZERO else "reflect"
            x, y = (F.pad(image, (border,) * 4, mode=mode) for image in (x, y))
        n, c, height, width = x.shape
        # A window in which the images are alike has an SSIM of 1, and no gradient.
        similarity = x.new_ones(n, c, height - self.size + 1, width - self.size + 1)
        differ = (x != y).flatten(0, 1).any(0)
        rows, columns = (differ.any(axis).nonzero().flatten().tolist() for axis in (1, 0))
        if rows:
            top, left = max(rows[0] - self.size + 1, 0), max(columns[0] - self.size + 1, 0)
            bottom, right = min(rows[-1] + self.size, height), min(columns[-1] + self.size, width)
            x, y = (image[:, :, top:bottom, left:right] for image in (x, y))
            similarity[:, :, top : bottom - self.size + 1, left : right - self.size + 1] = self._unfolded(x, y)
        return similarity

    def _unfolded(self, x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c p q"]:
        """Likewise, wholly inside the images."""
        n, c, height, width = x.shape
        window = self._window()
        a, b = (F.unfold(image.reshape(n * c, 1, height, width), self.size) for image in (x, y))
        mean_a, mean_b = ((window * part).sum(1, keepdim=True) for part in (a, b))
        a, b = a - mean_a, b - mean_b
        variance_a, variance_b, covariance = ((window * p).sum(1, keepdim=True) for p in (a * a, b * b, a * b))
        luminance = (2.0 * mean_a * mean_b + C1) / (mean_a.square() + mean_b.square() + C1)
        structure = (2.0 * covariance + C2) / (variance_a + variance_b + C2)
        return (luminance * structure).reshape(n, c, height - self.size + 1, width - self.size + 1)

    def _window(self) -> Float[Tensor, "pixels 1"]:
        taps = gaussian_taps(self.size) if self.gaussian else torch.ones(self.size, dtype=torch.float64)
        window = torch.outer(taps, taps).flatten()[:, None]
        return window / window.sum()


def _mean(values: Tensor, shown: Tensor) -> Tensor:
    counts = shown.flatten(1).sum(1).clamp(min=1)
    return torch.where(shown, values, torch.zeros_like(values)).flatten(1).sum(1) / counts


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
    """The first form that fits the loss's values on the probes' images, and the one that comes nearest.

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
    for form in _forms(masked, min(probes.rendering.shape[2:])):
        parts = form.parts((probes.rendering.double(), probes.target.double(), probes.mask.double()))
        columns = torch.stack([torch.ones_like(target), *parts], 1)
        for terms in _TERMS:
            fit = _least_squares(form, columns, terms, target, size, tolerance)
            if fit.error <= tolerance:
                return fit, fit
            if nearest is None or fit.error < nearest.error:
                nearest = fit
    return None, nearest


def _forms(masked: bool, side: int) -> Iterator[SsimForm]:
    """The most usual first."""
    shown = (Shown.GREY, Shown.ALL, Shown.BLACK, Shown.WHITE, Shown.CENTRES) if masked else (Shown.ALL,)
    windows = ((11, True), (3, False), (7, False), (11, False), (7, True), (5, True), (3, True), (9, True), (5, False))
    for what in shown:
        for size, gaussian in windows:
            for padding in (Padding.VALID, Padding.ZERO, Padding.REFLECT):
                if size <= side:
                    yield SsimForm(padding, size, gaussian, what)


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

    rounded = (fit(torch.round(exact, decimals=decimals)) for decimals in (1, 2, 3, 4, 6))
    return next((short for short in rounded if short.error <= tolerance), fit(exact))
