"""How grave a violation is: four levels, and the numbers that part the first two.

The noise numbers are those of the textbook form of SSIM (means of squares less squared means) in float32, which
does to anyone what it does. On 1,200 drawn pairs of 11 to 40 pixels a side, pytorch-msssim's value was off by at
most 2.0e-4, its gradient by at most 4.1e-3/√N as an L2 norm and 3.0e-2/N at one element, N being the gradient's
elements. Dense windows did worse: 1.5e-2/√N and 0.30/N. Where each window's value is clamped at 0, rounding takes half
the windows of nearly equal images below it, and their gradient with them: 9.2e-2/√N and 0.35/N; torchmetrics, whose
edges count several times, did 0.38/N.

So up to 5e-4 in the value is called rounding; 2e-2/√N in the gradient and 0.15/N in an element of it, and four times
that, or as much as the gradient's length, where the loss itself is within its rounding; whatever precision it happens
in. (How much of a gradient must be left there is for ``gradient-alive`` to say: a tenth, and in float32 a thousandth.)

Where pictures are bright and flat (:func:`harness.oracle.flatness.flatness`), more is. A sum of p numbers of about
equal size, taken one after another, is off by up to p·2⁻²⁴ of itself. So the textbook's variance over a window of p
pixels is off by that share of E[x²], and SSIM by p·2⁻²⁴/C2 after the division: 8.0e-3 for 11×11 pixels, 3.2e-3 for
7×7; never less than 2.5e-3. Of the flatness, on 1,500 pairs, torchmetrics did 4.5e-3 and a dense Gaussian window
2.5e-3, and on 180 bright pairs ``avg_pool2d`` 4.2e-3 over 11×11 alike pixels and 1.9e-3 over 7×7. The gradient has the
same denominators, and may be off by that share of its length: 2.8e-3 of it was seen, of a dense Gaussian window.

Where a window's pixels all weigh alike, the gradient goes with it: 4.9e-2/√N and 1.5e-2/√N for these two, one element
0.31/N and 0.08/N. There its numbers are multiplied by what p·2⁻²⁴/C2 is over 2.5e-3.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace

SSIM_VALUE_NOISE = 5e-4
"""Of the value of 1 − SSIM."""
SSIM_GRADIENT_NOISE = 2e-2
"""Of its gradient, as an L2 norm times the square root of its elements."""
SSIM_ELEMENT_NOISE = 0.15
"""Of one element of its gradient, times the number of elements."""
_UNIT = 2.0**-24
"""What float32 rounds by at most, of a number."""
_C2 = 0.03**2
"""SSIM's, of images in [0, 1]."""
_OF_FLAT_PICTURES = 5.0
"""Times which the first is the least that rounding may do where all is white and flat."""
_WHERE_ALIKE = 4.0
"""Times which the second and the third are where the loss itself is within its rounding."""
PLAIN_NOISE = 1e-6
"""The same three for a loss that subtracts nothing of nearly equal size, such as a mean of squares."""


class Level(str, enum.Enum):
    """From the gravest down."""

    FAULT = "fault"  # could change a training
    DEFINITION = "definition"  # another loss than the one it is held to, and right as that
    ROUNDING = "rounding"  # what float32 textbook arithmetic does to anyone
    STRICTNESS = "strictness"  # bad input is accepted

    @property
    def rank(self) -> int:
        """0 for the gravest."""
        return list(Level).index(self)


@dataclass(frozen=True)
class Noise:
    """What rounding may do to a loss of some scale.

    Attributes:
        value: of its value.
        gradient: of its gradient, as an L2 norm times the square root of its elements.
        element: of one element, times their number.
        share: of the gradient besides, as a share of its length.
        share_of_nothing: the same where the loss itself is within its rounding.
    """

    value: float
    gradient: float
    element: float
    share: float = 0.0
    share_of_nothing: float = 0.0

    def at(self, value: float) -> Noise:
        """Of the gradient, where the true loss is ``value``: where that is within the rounding, there is more of it."""
        if abs(value) > self.value:
            return self
        more = {"gradient": _WHERE_ALIKE * self.gradient, "element": _WHERE_ALIKE * self.element}
        return replace(self, share=max(self.share, self.share_of_nothing), **more)

    def of_value(self, error: float) -> Level:
        """The level of an error of the value; NaN is a fault."""
        return Level.ROUNDING if error <= self.value else Level.FAULT

    def of_gradient(self, error: float, elements: int, length: float = 0.0) -> Level:
        """The level of an error of the gradient of so many elements, an L2 norm; its length, where that is known."""
        rounding = self.gradient / math.sqrt(max(1, elements)) + self.share * length
        return Level.ROUNDING if error <= rounding else Level.FAULT

    def of_element(self, error: float, elements: int) -> Level:
        """The level of an error of one element of so many."""
        return Level.ROUNDING if error * elements <= self.element else Level.FAULT


def noise(subtracts: bool, scale: float = 1.0, flatness: float = 0.0, window: int = 0, uniform: bool = False) -> Noise:
    """The noise of a loss of the SSIM family (``subtracts``), or of another, times its scale.

    Args:
        flatness: of the pictures, from 0 to 1.
        window: pixels of one.
        uniform: they all weigh alike.
    """
    if subtracts:
        flat = SSIM_VALUE_NOISE * _OF_FLAT_PICTURES
        longer = max(1.0, window * _UNIT / _C2 / flat)
        share = flat * longer * flatness
        times = scale * (longer if uniform else 1.0)
        value = max(SSIM_VALUE_NOISE, share) * scale
        # A clamp may take all of a gradient, and no more.
        return Noise(value, SSIM_GRADIENT_NOISE * times, SSIM_ELEMENT_NOISE * times, share, share_of_nothing=1.0)
    return Noise(PLAIN_NOISE * scale, PLAIN_NOISE * scale, PLAIN_NOISE * scale)


def gravest(*levels: Level) -> Level:
    """The gravest of them."""
    return min(levels, key=lambda level: level.rank)
