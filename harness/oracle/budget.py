"""The error that a precision may have: how far from the truth a right loss can be.

A loss may be evaluated in float32 whatever its inputs and whatever autocast surrounds it, so the value's budget is the
same in every precision, against the truth for the same (cast) inputs.  Only a gradient that must be returned in a half
dtype is allowed that dtype's rounding.

The relative bound 1e-3 leaves room for the worst that the difference form is known to do in float32 (2.4e-4, a flat
grey pair with a flat offset) and is crossed by forms that cancel: off by 1e-2 and more for nearly equal images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from harness.precision import Precision

RELATIVE = 1e-3
# A loss below this is zero for all purposes: the smallest that a perturbation of 1e-7 on one pixel in 40×40 makes is
# of order 1e-16.
VALUE_FLOOR = 1e-20
# "Zero" where the truth is exactly zero: a few units in the last place of 1, about which textbook forms subtract.
ZERO = 1e-6


@dataclass(frozen=True)
class ErrorBudget:
    """Bounds on |value − truth| and on the L2 norm of gradient − truth.

    Attributes:
        value_relative: of the true value.
        value_floor: added to it.
        gradient_relative: of the true gradient's norm.
        gradient_floor: per gradient element (root mean square), added to it.
    """

    value_relative: float
    value_floor: float
    gradient_relative: float
    gradient_floor: float


def budget(precision: Precision, loss_scale: float = 1.0) -> ErrorBudget:
    """The precision's budget; ``loss_scale`` is what the loss was multiplied by before the backward pass."""
    if precision.input_dtype == torch.float32:
        return ErrorBudget(RELATIVE, VALUE_FLOOR, RELATIVE, 0.0)
    info = torch.finfo(precision.input_dtype)
    return ErrorBudget(RELATIVE, VALUE_FLOOR, RELATIVE + info.eps / 2, info.smallest_normal * info.eps / loss_scale)
