"""What a loss is called with: a masked pair of images, or maps of points with their rays and a mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

T = TypeVar("T", bound="_Tensors")


class _Tensors:
    """Fields in the order of the loss's arguments. The gradient is by the first; the mask is the last."""

    def named(self) -> dict[str, Tensor]:
        """The tensors by their names."""
        return dict(vars(self))

    def tensors(self) -> tuple[Tensor, ...]:
        """The arguments of a call."""
        return tuple(vars(self).values())

    def mapped(self: T, function: Callable[[Tensor], Tensor]) -> T:
        """The function of each tensor."""
        return self._made(*(function(tensor) for tensor in self.tensors()))

    def with_first(self: T, first: Tensor) -> T:
        """The same with another tensor to differentiate by."""
        return self._made(first, *self.tensors()[1:])

    def _made(self: T, *tensors: Tensor) -> T:
        cls: Callable[..., T] = type(self)
        return cls(*tensors)


@dataclass(frozen=True)
class MaskedPair(_Tensors):
    """A batch of renderings and targets with their masks.

    Attributes:
        rendering, target: (n, 3, h, w), values in [0, 1].
        mask: (n, 1, h, w), 1 in the foreground and 0 elsewhere.
    """

    rendering: Float[Tensor, "n 3 h w"]
    target: Float[Tensor, "n 3 h w"]
    mask: Float[Tensor, "n 1 h w"]

    def composited(self, neutral_value: float = 0.5) -> MaskedPair:
        """The pair with ``neutral_value`` wherever the mask hides, and a full mask."""
        shown = self.mask > 0.5
        neutral = torch.full_like(self.rendering, neutral_value)
        return replace(
            self,
            rendering=torch.where(shown, self.rendering, neutral),
            target=torch.where(shown, self.target, neutral),
            mask=torch.ones_like(self.mask),
        )

    def cast(self, device: str, dtype: torch.dtype) -> MaskedPair:
        """All of it as a precision with inputs of this dtype has it."""
        return self.mapped(lambda tensor: tensor.to(device, dtype))


@dataclass(frozen=True)
class PointMap(_Tensors):
    """A batch of maps with one point for each pixel, and the rays through the pixels, in world units.

    Attributes:
        xyz: the points (n, 3, h, w).
        origin: of each pixel's ray: its camera's centre (n, 3, h, w).
        direction: of each pixel's ray, of unit length (n, 3, h, w).
        mask: (n, 1, h, w), 1 in the foreground and 0 elsewhere.
    """

    xyz: Float[Tensor, "n 3 h w"]
    origin: Float[Tensor, "n 3 h w"]
    direction: Float[Tensor, "n 3 h w"]
    mask: Float[Tensor, "n 1 h w"]

    def cast(self, device: str, dtype: torch.dtype) -> PointMap:
        """Points and mask in this dtype. Rays come from cameras, not from a network: they stay float32, since a
        direction rounded to half precision would have no unit length any more.
        """
        rays = (self.origin.to(device), self.direction.to(device))
        return PointMap(self.xyz.to(device, dtype), *rays, self.mask.to(device, dtype))


LossInputs = MaskedPair | PointMap
