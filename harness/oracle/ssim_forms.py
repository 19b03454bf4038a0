"""The forms of SSIM that public losses compute, each in float64.

A loss of this family is ``a + b·S + c·A + d·Q``: S the mean of an SSIM map, A and Q the mean absolute and squared
error, all of them of the images as the form composites them.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from harness.cases.loss_inputs import MaskedPair
from harness.oracle.masked_ssim import C1, C2, gaussian_taps
from harness.oracle.truth import Truth, differentiated


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


OF_WINDOWS = (Shown.CENTRES, Shown.ALIKE)
"""Those of the map of windows: the images are compared whole."""


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
USUAL_SIGMA = 1.5
"""Of a Gaussian window, in pixels."""


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
    sigma: float = USUAL_SIGMA
    constants: Constants = USUAL
    pooled: bool = False

    @property
    def words(self) -> str:
        """In a few words."""
        window = f"{self.size}×{self.size} {'Gaussian' if self.gaussian else 'uniform'} windows"
        if self.gaussian and self.sigma != USUAL_SIGMA:
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
        if self.shown not in OF_WINDOWS:
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
