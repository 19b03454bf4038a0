"""What a golden holds of one measured quantity: exact numbers, exact words, or an array."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from harness.cases.random_numbers import RandomNumbers

# A larger array is kept as this many sums, see sketch().
LARGEST_WHOLE_ARRAY = 1024
SKETCH_SIZE = 256


@dataclass(frozen=True)
class Numbers:
    """One or several floating-point numbers, kept exactly; ``single`` where it is one by nature."""

    values: tuple[float, ...]
    single: bool = False

    @staticmethod
    def of(value: float) -> Numbers:
        return Numbers((float(value),), single=True)


@dataclass(frozen=True)
class Words:
    """Counts, names of reasons and yes-or-no answers, which have no tolerance; ``None`` where there is none."""

    values: tuple[int | str | bool | None, ...]


@dataclass(frozen=True)
class Array:
    """A tensor, float32 on the CPU: whole and of its own shape, or (``sketched``) as :func:`sketch` gives it.

    Attributes:
        data: what is stored and compared.
        shape: the tensor's own.
        norm: the L2 norm of the tensor itself.
    """

    data: Float[Tensor, "..."]
    shape: tuple[int, ...]
    norm: float
    sketched: bool

    @staticmethod
    def of(tensor: Tensor) -> Array:
        """Keep the tensor, whole if it is small."""
        exact = tensor.detach().cpu().double()
        norm = float(torch.linalg.vector_norm(exact))
        sketched = exact.numel() > LARGEST_WHOLE_ARRAY
        data = sketch(exact) if sketched else exact
        return Array(data.float().contiguous(), tuple(tensor.shape), norm, sketched)


Term = Numbers | Words | Array
Terms = Mapping[str, Term]


def sketch(tensor: Tensor) -> Float[Tensor, "256"]:
    """256 sums of the elements under random signs, element i going into sum i mod 256.

    It is linear and keeps norms and inner products on average (a count sketch), so the distance of two sketches
    stands for that of the tensors, to within about a tenth, at a small part of their size.
    """
    flat = tensor.reshape(-1).double().numpy()
    padded = np.zeros(-(-flat.size // SKETCH_SIZE) * SKETCH_SIZE)
    padded[: flat.size] = flat
    signs = np.where(RandomNumbers(flat.size).uniform(padded.size) < 0.5, -1.0, 1.0)
    return torch.from_numpy((padded * signs).reshape(-1, SKETCH_SIZE).sum(0))


@dataclass(frozen=True)
class Tolerance:
    """How far a number, or an array's L2 norm, may move: ``relative`` of the recorded one plus ``absolute``, or
    ``ulps`` float32 units in the last place of it, whichever is more.
    """

    relative: float = 0.0
    absolute: float = 0.0
    ulps: float = 0.0

    def bound(self, scale: float) -> float:
        """The permitted absolute error of a quantity of this size."""
        return max(self.relative * scale + self.absolute, self.ulps * float32_spacing(scale))


def float32_spacing(scale: float) -> float:
    """One float32 unit in the last place of a number of this size."""
    if not math.isfinite(scale):
        return 0.0
    largest = float(np.finfo(np.float32).max)
    return float(np.spacing(np.float32(min(abs(scale), largest / 2))))
