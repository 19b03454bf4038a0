"""Uniform numbers that are the same bits on every machine.

Philox's raw output is fixed by its specification; NumPy's distributions on top of it may change between releases, so
only the raw integers are used.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class RandomNumbers:
    """A stream of numbers, a pure function of its keys (non-negative integers)."""

    def __init__(self, *keys: int) -> None:
        folded = 0
        for key in keys:
            # A fixed mixing of the keys into Philox's 128-bit one; distinct short tuples give distinct keys.
            folded = (folded * 0x9E3779B97F4A7C15F39CC0605CEDC835 + key + 1) % (1 << 128)
        self._bits = np.random.Philox(key=folded)

    def uniform(self, *shape: int) -> NDArray[np.float64]:
        """Numbers in [0, 1), multiples of 2⁻⁵³."""
        raw = self._bits.random_raw(int(np.prod(shape, dtype=np.int64)))
        bits = np.asarray(raw, dtype=np.uint64) >> np.uint64(11)
        return (bits.astype(np.float64) * 2.0**-53).reshape(shape)

    def below(self, limit: int) -> int:
        """An integer in [0, limit)."""
        return int(int(self._bits.random_raw()) % limit)
