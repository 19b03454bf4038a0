"""What one call of a loss gave: its value and its gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Evaluation:
    """A value, and its gradient by the rendering or the points, loss scale divided out, on the CPU in float64.

    Attributes:
        has_graph: the loss can be differentiated. Without a graph ``backward()`` raises, and the gradient here is zero.
    """

    value: float
    gradient: Float[Tensor, "n 3 h w"]
    loss_scale: float
    has_graph: bool = True

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.value) and bool(torch.isfinite(self.gradient).all())


def without_graph(value: float, image: Tensor) -> Evaluation:
    """Of a value that can't be differentiated by the image."""
    return Evaluation(value, torch.zeros_like(image, dtype=torch.float64).cpu(), 1.0, has_graph=False)
