"""What an oracle says of one case: a loss and its gradient in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from harness.cases.loss_inputs import LossInputs


@dataclass(frozen=True)
class Truth:
    """The loss and its gradient by the rendering, or by the points, (n, 3, h, w) in float64.

    Some losses have kinks: a distance's gradient has no direction where the distance is zero, and a sum of absolute
    differences jumps where one changes its sign. Within float32's rounding of a kink either side is right, so a
    right loss may differ from the truth by as much as the uncertainties say.

    Attributes:
        value_uncertainty: how far float32's rounding may take the value.
        gradient_uncertainty: how far it may take the gradient, as an L2 norm.
    """

    value: float
    gradient: Float[Tensor, "n 3 h w"]
    value_uncertainty: float = 0.0
    gradient_uncertainty: float = 0.0


def exact(inputs: LossInputs) -> tuple[Tensor, ...]:
    """The inputs at their exact values, float64 on the CPU, the first to be differentiated by."""
    first, *others = (tensor.detach().cpu().double() for tensor in inputs.tensors())
    return first.requires_grad_(), *others


def differentiated(inputs: LossInputs, loss: Callable[..., Tensor]) -> Truth:
    """Value and gradient of ``loss(*inputs)`` at their exact values."""
    first, *others = exact(inputs)
    value = loss(first, *others)
    if not value.requires_grad:
        return Truth(value.item(), torch.zeros_like(first).detach())
    (gradient,) = torch.autograd.grad(value, first)
    return Truth(value.item(), gradient)
