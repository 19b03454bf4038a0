"""Faults in a training's batch."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from harness.cases.descriptors import PassKind

_EXPLODING = 1e4
# Times this, a colour of 0.5 is 2¹⁶: inf in float16, an ordinary number in bfloat16 and float32.
_BEYOND_HALF = 2.0**17


def spoil(images: Float[Tensor, "b v c h w"], kind: PassKind) -> Float[Tensor, "b v c h w"]:
    """The batch with the fault in it; the original is left as it is.

    A view explodes last, where a model that draws more views than it sees doesn't see it: the loss is then finite and
    its gradient huge.  NaN and overflow come first, where it does; masks change in all views.

    Args:
        images: RGB in [0, 1] and, where there is a fourth channel, the mask.
    """
    spoilt = images.clone()
    colours, middle = spoilt[:, 0, :3], (images.shape[-2] // 2, images.shape[-1] // 2)
    if kind is PassKind.EXPLODING_VIEW:
        spoilt[:, -1, :3] *= _EXPLODING
    elif kind is PassKind.OVERFLOW:
        colours.clamp_(min=0.5).mul_(_BEYOND_HALF)
    elif kind is PassKind.NAN_PIXELS:
        colours[..., middle[0], middle[1]] = math.nan
        spoilt[:, 0, 3:, middle[0], middle[1]] = 1.0
    elif kind in (PassKind.ALL_BACKGROUND, PassKind.ONE_PIXEL):
        spoilt[:, :, 3:] = 0.0
        if kind is PassKind.ONE_PIXEL:
            spoilt[:, :, 3:, middle[0], middle[1]] = 1.0
    return spoilt
