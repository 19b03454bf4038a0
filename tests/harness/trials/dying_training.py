"""A training that ends its process."""

from __future__ import annotations

import os

from torch import Tensor

from gslrm.testing.tiny_training import TinyTraining


class Dying(TinyTraining):
    """In its first pass, with the code 7."""

    def train_on(self, images: Tensor) -> Tensor:
        os._exit(7)
