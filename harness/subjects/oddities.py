"""What a loss that fits no definition is seen to do in float64, where a loss of two images would hardly be meant to."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from harness.cases.loss_inputs import MaskedPair
from harness.oracle.probe_pairs import TOGETHER

# What float32 within a loss that is handed float64 may do, of a gradient's or a value's size.
_NOTHING = 1e-3
_CHANNELS = ("the first", "the second", "the third")

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def oddities(loss: Loss, probes: MaskedPair, masked: bool) -> tuple[str, ...]:
    """Each in a clause: where equal images are no minimum, and what of the images, the mask and the batch doesn't count
    or does.

    Args:
        loss: of float64 rendering, target and mask, differentiable.
        probes: as :func:`harness.oracle.probe_pairs.probe_pairs` makes them.
        masked: the loss gets to see the mask.
    """
    with torch.autocast("cpu", enabled=False):
        return tuple(_found(loss, probes, masked))


def _found(loss: Loss, probes: MaskedPair, masked: bool) -> Iterator[str]:
    x, y, mask = probes.rendering.double(), probes.target.double(), probes.mask.double()
    of_each = [_by_rendering(loss, x[i : i + 1], y[i : i + 1], mask[i : i + 1]) for i in range(len(mask))]
    values = torch.tensor([value for value, _ in of_each], dtype=torch.float64)
    gradients = torch.cat([gradient for _, gradient in of_each])
    length, size = float(gradients.norm()), float(values.abs().max())
    if not length > 0.0:
        yield "the rendering has no influence"
        return
    of_equal = [_by_rendering(loss, y[i : i + 1], y[i : i + 1], mask[i : i + 1]) for i in range(len(mask))]
    value, steepest = max(of_equal, key=lambda one: float(one[1].norm()))
    slope = float(steepest.norm())
    if slope > _NOTHING * length:
        yield f"equal images are no minimum: one pair has {value:.3g}, and a gradient of {slope:.3g} by the rendering"
    of_channels = gradients.pow(2).sum((0, 2, 3)).sqrt()
    dead = [name for name, one in zip(_CHANNELS, of_channels.tolist(), strict=False) if one <= _NOTHING * length]
    if dead:
        yield f"{' and '.join(dead)} of the rendering's channels {'has' if len(dead) == 1 else 'have'} no influence"
    if masked:
        yield from _of_mask(loss, (x, y, mask), gradients, values, size)
    together = float(loss(*(tensor[TOGETHER] for tensor in (x, y, mask))).detach())
    mean = float(values[TOGETHER].mean())
    if abs(together - mean) > _NOTHING * size:
        yield f"a batch of two has {together:.3g}, and they have {mean:.3g} on average"


def _of_mask(
    loss: Loss, images: tuple[Tensor, Tensor, Tensor], gradients: Tensor, values: Tensor, size: float
) -> Iterator[str]:
    x, y, mask = images
    hidden = (mask <= 0.5).expand_as(gradients)
    seen, unseen = float(gradients[~hidden].norm()), float(gradients[hidden].norm())
    if seen <= _NOTHING * unseen:
        yield "only what the mask hides has influence"
    elif unseen > _NOTHING * seen:
        yield "what the mask hides of the rendering has influence"
    all_shown = torch.ones_like(mask[:1])
    bare = [float(loss(x[i : i + 1], y[i : i + 1], all_shown).detach()) for i in range(len(mask))]
    if (torch.tensor(bare, dtype=torch.float64) - values).abs().max() <= _NOTHING * size:
        yield "the mask has no influence"


def _by_rendering(loss: Loss, x: Tensor, y: Tensor, mask: Tensor) -> tuple[float, Tensor]:
    rendering = x.clone().requires_grad_()
    value = loss(rendering, y.clone(), mask.clone())
    if not value.requires_grad:
        return float(value), torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(value, rendering, allow_unused=True)
    return float(value.detach()), torch.zeros_like(x) if gradient is None else gradient
