"""Clamping with a gradient of 1 at the bounds, on every version of torch.

Up to torch 2.13 the gradient of `Tensor.clamp` at a bound is 1, from 2.14 on it is 0. A pixel that is exactly white or
black lies on a bound, so a loss that clamps its rendering would lose the gradient of every such pixel. What is
differentiated in this package is clamped here.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def clamp(
    x: Float[Tensor, "*shape"], low: float | Tensor | None = None, high: float | Tensor | None = None
) -> Float[Tensor, "*shape"]:
    """The values of `x.clamp(low, high)`: a NaN stays a NaN. The bounds are constants.

    The gradient is 1 in [low, high], both bounds included, and 0 beyond them and at a NaN. `low` or `high` is a number,
    a tensor that broadcasts to x, or None for no bound; at least one must be given.
    """
    clamped = x.detach().clamp(low, high)  # type: ignore[arg-type]  # one of the overloads fits
    # An element equal to what it is clamped to lies within the bounds. A NaN equals nothing.
    return torch.where(x.detach() == clamped, x, clamped)
