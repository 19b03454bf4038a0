"""What an oracle says of one case: a loss and its gradient in float64."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from harness.cases.loss_inputs import LossInputs


class Truth:
    """The loss and its gradient by the rendering, or by the points, (n, 3, h, w) in float64.

    Some losses have kinks: a distance's gradient has no direction where the distance is zero, and a sum of absolute
    differences jumps where one changes its sign. Within float32's rounding of a kink either side is right, so a
    right loss may differ from the truth by as much as the uncertainties say.

    Args:
        gradient: it, or what gives it: of large images it takes several times as long as the value, which is often all
            that is asked for.

    Attributes:
        value_uncertainty: how far float32's rounding may take the value.
        gradient_uncertainty: how far it may take the gradient, as an L2 norm.
    """

    def __init__(
        self,
        value: float,
        gradient: Tensor | Callable[[], Tensor],
        value_uncertainty: float = 0.0,
        gradient_uncertainty: float = 0.0,
    ) -> None:
        self.value = value
        self.value_uncertainty, self.gradient_uncertainty = value_uncertainty, gradient_uncertainty
        self._gradient = gradient

    @property
    def gradient(self) -> Float[Tensor, "n 3 h w"]:
        """Calculated when it is first asked for, where it wasn't handed over."""
        if not isinstance(self._gradient, Tensor):
            self._gradient = self._gradient()
        return self._gradient


def exact(inputs: LossInputs) -> tuple[Tensor, ...]:
    """The inputs at their exact values, float64 on the CPU, the first to be differentiated by."""
    first, *others = (tensor.detach().cpu().double() for tensor in inputs.tensors())
    return first.requires_grad_(), *others


def differentiated(inputs: LossInputs, loss: Callable[..., Tensor], waits: bool = False) -> Truth:
    """Value and gradient of ``loss(*inputs)`` at their exact values.

    Args:
        waits: the graph holds little besides the inputs, so it can be kept until the gradient is asked for.
    """
    first, *others = exact(inputs)
    value = loss(first, *others)
    if not value.requires_grad:
        return Truth(value.item(), torch.zeros_like(first).detach())

    def gradient() -> Tensor:
        return torch.autograd.grad(value, first)[0]

    return Truth(value.item(), gradient if waits else gradient())
