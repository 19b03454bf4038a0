"""SGD and AdamW written out for one number, as their papers and torch's documentation give them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.cases.worlds import OptimizerKind

MOMENTUM = 0.5
BETAS, EPSILON = (0.5, 0.75), 0.125
"""AdamW's. With an epsilon as large as its gradients a step's length tells how they were clipped, which AdamW's usual
1e-8 hides."""


def momentum_of(kind: OptimizerKind) -> float:
    """SGD's momentum. torch's fused SGD (2.13) leaves its momenta uninitialised where the very first step is skipped
    for an overflow, whatever training step calls it: fused, there is none.
    """
    return 0.0 if kind.fused else MOMENTUM


@dataclass
class ScalarOptimizer:
    """The optimizer's state of a parameter whose elements are all alike."""

    kind: OptimizerKind
    weight_decay: float
    steps: int = 0
    first: float = 0.0
    second: float = 0.0

    def step(self, value: float, gradient: float, rate: float) -> float:
        """The value after one step."""
        self.steps += 1
        if not self.kind.adam:
            self.first = momentum_of(self.kind) * self.first + gradient + self.weight_decay * value
            return value - rate * self.first
        beta1, beta2 = BETAS
        self.first = beta1 * self.first + (1.0 - beta1) * gradient
        self.second = beta2 * self.second + (1.0 - beta2) * gradient**2
        mean = self.first / (1.0 - beta1**self.steps)
        size = math.sqrt(self.second / (1.0 - beta2**self.steps))
        return value * (1.0 - rate * self.weight_decay) - rate * mean / (size + EPSILON)
