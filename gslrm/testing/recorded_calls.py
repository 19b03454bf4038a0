"""What a refactor must leave of the SSIM losses beside a training's own call: other ways in, defaults, refusals.

Plain named values, as those of :mod:`gslrm.testing.recorded_values`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from gslrm.model.masked_loss import MaskedLoss
from gslrm.model.ssim_difference import SsimConstants, ssim_loss_difference_form
from gslrm.model.ssim_loss import SsimTerms, ssim_loss
from gslrm.model.tried_losses import ForegroundSsimLoss
from gslrm.model.utils_losses import MaskedSsimLoss, SsimLoss
from gslrm.testing.recorded_boxes import boxes
from gslrm.testing.recorded_filters import CountingMode, filters

_CONSTANTS = SsimConstants.of(1.0, 1.0)


def ssim_calls(device: str) -> dict[str, Sequence[float] | Sequence[int] | Sequence[str]]:
    """1 − SSIM by every way in that a training's call of the masked loss doesn't take, and what comes of its gradients.

    The difference form itself, of more planes than are worked on at once; without a mask, and of masks that hide
    nothing or all; other settings; a second backward pass, ``torch.func.grad`` and ``vmap``, the operator of torch's
    library, also as a compiled call comes to it, and an infinite upstream gradient. Of each gradient two sums, of what
    is above 0 and of what is below, so that neither cancels.
    """
    x, y = (image.requires_grad_() for image in _pictures(2, 23, 31, device, torch.float32))
    only_x, only_y, mask = x.detach(), y.detach(), torch.zeros(2, 1, 23, 31, device=device)
    mask[:, :, 4:15, 6:29] = 1.0
    by_torch, other = MaskedSsimLoss(path="torch"), MaskedSsimLoss(0.25, data_range=2.0)
    loss = MaskedSsimLoss()(x, y, mask)
    torch.autograd.grad(loss, (x, y), retain_graph=True)
    unchecked = MaskedSsimLoss(path="torch", check_values=False)

    def mapped(*images: Tensor) -> Tensor:
        losses: Tensor = torch.func.vmap(unchecked)(*images)
        return losses.sum()

    pairs = only_x[:, None], only_y[:, None], mask[:, None]
    to_infinity = [(loss, x), (MaskedSsimLoss()(x, y, mask), x), (SsimLoss()(x, y), y)]
    # A half is hidden too.
    halved = 0.5 * mask + 0.5
    to_infinity.append((MaskedSsimLoss()(x, y, halved), x))
    found: dict[str, Sequence[float] | Sequence[int] | Sequence[str]] = {
        "form-float32": _of_form(device, torch.float32),
        "form-float64": _of_form(device, torch.float64),
        "form-autocast": _same_in_autocast(device),
        "form-limit": _at_its_limit(device),
        "plain": [
            *_sums(SsimLoss()(x, y), x, y), *_sums(SsimLoss()(x, only_y), x), *_sums(SsimLoss()(only_x, y), y),
            *_sums(SsimLoss(2.0)(x, y), x),
        ],
        "masked": [
            *_sums(MaskedSsimLoss()(x, y, mask), x, y), *_sums(by_torch(x, y, mask > 0.5), x, y),
            *_sums(MaskedSsimLoss()(x, only_y, mask), x), *_sums(by_torch(only_x, y, mask), y),
            *_sums(by_torch(x, y, mask * 0.0 + 1.0), x), *_sums(by_torch(x, y, mask * 0.5), x),
            *_sums(other(x, y, mask), x, y),
        ],
        "again": [*_sums(loss, x, y, upstream=-3.0), *_sums(loss, x), *_sums(SsimLoss()(x, y), x, upstream=2.0)],
        "transformed": [
            *_of(torch.func.grad(unchecked, argnums=1)(only_x, only_y, mask)), *_of(torch.func.vmap(unchecked)(*pairs)),
            *_of(torch.func.vmap(unchecked, (0, None, None))(pairs[0], pairs[1][0], pairs[2][0])),
            *_of(torch.func.vmap(torch.func.grad(unchecked))(*pairs)),
            *_of(torch.func.grad(mapped)(*pairs)), *_of(torch.func.grad(mapped, argnums=1)(*pairs)),
            *_sums(mapped(x[:, None], *pairs[1:]), x), *_sums(mapped(pairs[0], y[:, None], pairs[2]), y),
        ],
    }  # fmt: skip

    numbers = [_CONSTANTS.c1, _CONSTANTS.c2, _CONSTANTS.offset, 1.0]
    operator: list[float] = []
    shapes: list[str] = []
    for wants in ((True, True), (True, False), (False, False)):
        images = [image.detach().requires_grad_(wanted) for image, wanted in zip((x, y), wants, strict=True)]
        value, *_ = torch.ops.gslrm.ssim_loss(*images, mask, numbers, "torch", "x", "y", *wants)
        operator += _sums(value, *(image for image in images if image.requires_grad))
        to_infinity += [(value, image) for image in images if image.requires_grad]
        fakes = [tensor.detach().to("meta") for tensor in (*images, mask)]
        parts = torch.ops.gslrm.ssim_loss(*fakes, numbers, "torch", "x", "y", *wants)
        shapes += [str(tuple(part.shape)) for part in parts]
    value, *_ = torch.ops.gslrm.ssim_loss(x, y, halved, numbers, "torch", "x", "y", True, True)
    to_infinity += [(value, x), (value, y)]
    # The operator is what a compiled call comes to; how it is compiled makes no difference.
    compiled = torch.compile(MaskedSsimLoss(path="torch"), backend="eager", fullgraph=True)
    operator.append(float(compiled(only_x, only_y, mask)))
    found["operator"], found["operator-shapes"] = operator, shapes
    counts: list[int] = []
    for value, image in to_infinity:
        (gradient,) = torch.autograd.grad(value, image, torch.full_like(value, math.inf), retain_graph=True)
        counts += [int(part.sum()) for part in (gradient == math.inf, gradient == -math.inf, gradient == 0)]
    found["times-infinity"] = counts
    losses = SsimLoss(2.0), MaskedSsimLoss(0.25), _ZeroLoss(), ForegroundSsimLoss()
    # What is asked of torch is done by torch: a fused pass is a few operators.
    with CountingMode() as counting:
        by_torch(only_x, only_y, mask)
    found["filters"] = filters()
    # How many sums of windows that are all 2 are at most 2, of 64 numbers of them: float32 would round some up.
    opposites = [torch.ones(1, 3, 11 + k // 8, 11 + k % 8, device=device) for k in range(64)]
    narrow = (SsimLoss(2.0**-5, path=path, check_values=False) for path in ("torch", "auto"))
    found["limit"] = [sum(float(loss(image, -image)) <= 2.0 for image in opposites) for loss in narrow]
    found["boxes"] = boxes()
    found["by-torch"] = [int(len(counting.operators) > 20)]
    found["words"] = [str(inspect.isabstract(MaskedLoss)), *map(repr, losses)]
    return found


def _of_form(device: str, dtype: torch.dtype) -> list[float]:
    # 66 000 pixels a plane, more than a chunk is meant to hold: it holds one.
    x, y = _pictures(2, 220, 300, device, dtype)
    weights = _waves(2, 1, 210, 290, 0.11, device, dtype)
    d, s = (x - y).requires_grad_(), (x + y - _CONSTANTS.offset).requires_grad_()
    found: list[float] = []
    for weight in (None, weights / weights.sum()):
        found += _sums(ssim_loss_difference_form(d, s, _CONSTANTS, weight), d, s)
        # Of small planes: all in one chunk.
        few, cut = (..., slice(20), slice(20)), None if weight is None else weight[..., :10, :10]
        found += _sums(ssim_loss_difference_form(d[few], s[few], _CONSTANTS, cut), d)
    return found


def _same_in_autocast(device: str) -> list[int]:
    """Whether the form's value, and each sum of its gradient, is in autocast what it is outside: 1 or 0."""
    x, y = _pictures(1, 20, 20, device, torch.float32)
    d, s = (x - y).requires_grad_(), x + y - _CONSTANTS.offset
    outside = _sums(ssim_loss_difference_form(d, s, _CONSTANTS), d)
    with torch.autocast(device, dtype=torch.bfloat16):
        inside = _sums(ssim_loss_difference_form(d, s, _CONSTANTS), d)
    return [int(math.isclose(one, other, rel_tol=1e-5)) for one, other in zip(inside, outside, strict=True)]


def _at_its_limit(device: str) -> list[float]:
    """Of opposite images, with weights that sum to 1.5: no weights bring it above 2. Then how many single windows are
    in [0, 2], of 64 levels, where float32 rounds variances by far more than the constants are.
    """
    constants = SsimConstants.of(2.0**-5, 0.0)
    d = torch.full((1, 3, 20, 20), 1.0, device=device)
    weights = torch.full((1, 1, 10, 10), 0.015, device=device)
    of_opposites = _sums(ssim_loss_difference_form(d, torch.zeros_like(d), constants, weights))
    noise = 1e-3 * (_waves(1, 1, 11, 11, 0.2, device, torch.float32) - 0.5)
    levels = [torch.full_like(noise, 20.0 + 0.19 * k) for k in range(64)]
    losses = [float(ssim_loss_difference_form(noise, level, constants)) for level in levels]
    return [*of_opposites, float(sum(0.0 <= loss <= 2.0 for loss in losses))]


def _sums(loss: Tensor, *by: Tensor, upstream: float = 1.0) -> list[float]:
    """The loss, and for each gradient what :func:`_of` gives."""
    gradients = torch.autograd.grad(loss, by, torch.full_like(loss, upstream), retain_graph=True) if by else ()
    return [float(loss.detach()), *(number for gradient in gradients for number in _of(gradient))]


def _of(tensor: Tensor) -> list[float]:
    """The sums of its elements above 0 and of those below, weighed by their place."""
    flat = tensor.detach().cpu().double().flatten()
    weighed = flat * (1.5 + torch.cos(0.7 * torch.arange(len(flat), dtype=torch.float64)))
    return [float(weighed.clamp(min=0.0).sum()), float(weighed.clamp(max=0.0).sum())]


def loss_refusals(device: str) -> dict[str, list[str | None]]:
    """What :func:`sentence_of` says of each bad image, mask and setting; of what is just allowed too."""
    x = torch.full((2, 3, 11, 12), 0.5, device=device)
    mask = torch.ones(2, 1, 11, 12, device=device)
    bad, far, ints = x.clone(), x * 33.0, x.int()
    bad[0, 1, 2, 3] = math.nan
    infinite = x.clone()
    infinite[0, 1, 2, 3] = math.inf
    holed = mask.clone()
    holed[1, 0, 2, 3] = math.nan
    # Far outside where it is shown, farther where it is hidden, by a half too.
    hiding, beyond = mask.clone(), far.clone()
    hiding[..., :4], beyond[..., :4] = 0.5, -1000.0
    hiding[..., :2], beyond[..., :2] = 0.0, -2000.0
    narrow = MaskedSsimLoss(0.01, data_range=2.0**-5, path="torch")
    plain, masked, other = SsimLoss(), MaskedSsimLoss(), _ZeroLoss()
    images: list[Callable[[], object]] = [
        lambda: plain([1.0], x), lambda: plain(x, [1.0]), lambda: plain(ints, x), lambda: plain(x, ints),
        lambda: plain(x[0], x), lambda: plain(x, x[0]), lambda: plain(x, x[:1]), lambda: plain(x[:0], x[:0]),
        lambda: plain(x[..., 1:], x[..., 1:]), lambda: plain(x[..., :10, :], x[..., :10, :]),
        lambda: plain(x[..., 2:], x[..., 2:]), lambda: plain(bad, x), lambda: plain(x, bad), lambda: plain(far, x),
        lambda: plain(x, -far), lambda: plain(x * 32.0, x), lambda: plain(bad / 0.0, x), lambda: plain(x, x.to("meta")),
        lambda: SsimLoss(check_values=False)(bad, far), lambda: SsimLoss(path="torch")(x, bad),
        lambda: SsimLoss(2.0, path="torch")(x * 65.0, x), lambda: SsimLoss(2.0, path="torch")(x * 64.0, x),
        lambda: SsimLoss(2.0)(x * 63.0, x), lambda: plain(infinite, x), lambda: plain(x, -infinite),
        lambda: plain(x[None], x[None]), lambda: plain(x[:1], x), lambda: SsimLoss(0.5)(x * 20.0, x),
        lambda: SsimLoss(2.0)(x * 65.0, x),
    ]  # fmt: skip
    masks: list[Callable[[], object]] = [
        lambda: masked(ints, x, mask), lambda: masked(x[..., 2:], x[..., 2:], mask),
        lambda: masked(x, x, [1.0]), lambda: masked(x, x, mask + 0j), lambda: masked(x, x, mask[0]),
        lambda: masked(x, x, mask[:1]), lambda: masked(x, x, mask.expand(2, 3, 11, 12)), lambda: masked(x, x, holed),
        lambda: masked(x, x, mask.int()), lambda: masked(x, x, mask.to("meta")), lambda: masked(bad, x, mask),
        lambda: masked(x, far, mask), lambda: masked(bad, x, mask * 0.0), lambda: masked(far, bad, mask > 1),
        lambda: MaskedSsimLoss(path="torch")(x, x, holed), lambda: MaskedSsimLoss(path="torch")(x, bad, mask),
        lambda: MaskedSsimLoss(path="torch")(bad, x, mask * 0.5),
        lambda: MaskedSsimLoss(check_values=False)(far, x, mask),
        lambda: other(x, bad, mask), lambda: other(far, x, mask), lambda: other(bad, far, mask * 0.5),
        lambda: other(x, x, holed), lambda: other(x[..., 2:], x[..., 2:], mask),
        lambda: _ZeroLoss(check_values=False)(bad, far, mask), lambda: ForegroundSsimLoss()(x, bad, mask),
        lambda: _ZeroLoss(data_range=2.0**-5)(x / 32.0, x / 32.0, mask * 0.5),
        lambda: ssim_loss(x * 512.0, x, mask, SsimTerms(_CONSTANTS)),
        lambda: masked(beyond, x, hiding), lambda: MaskedSsimLoss(path="torch")(beyond, x, hiding),
        lambda: narrow(x / 32.0, x / 32.0, hiding),
        # Hidden values may be beyond any data range's limit, by little or much.
        lambda: narrow((x / 32.0).where(hiding > 0.5, 1.0), x / 32.0, hiding),
        lambda: MaskedSsimLoss(data_range=2.0, path="torch")(x.where(hiding > 0.5, 100.0), x, hiding),
    ]  # fmt: skip
    settings: list[Callable[[], object]] = [
        lambda: SsimLoss(0.0), lambda: SsimLoss(-1.0), lambda: SsimLoss(math.inf), lambda: SsimLoss(path="gpu"),
        lambda: SsimLoss(0.5), lambda: MaskedSsimLoss(2.5),
        lambda: MaskedSsimLoss(-2.5), lambda: MaskedSsimLoss(math.nan), lambda: MaskedSsimLoss(-2.0),
        lambda: MaskedSsimLoss(4.0, data_range=2.0), lambda: MaskedSsimLoss(data_range=0.0),
        lambda: MaskedSsimLoss(9.0, data_range=4.0),
        lambda: _ZeroLoss(data_range=0), lambda: set_field(_CONSTANTS, "c1"),
        lambda: set_field(SsimTerms(_CONSTANTS), "path"),
    ]  # fmt: skip
    leaf = x.clone().requires_grad_()
    losses = plain(leaf, x * 0.9), ForegroundSsimLoss()(leaf, x * 0.9, mask).square()
    slopes = [torch.autograd.grad(loss, leaf, create_graph=True)[0] for loss in losses]
    return {
        "images": [sentence_of(call) for call in images],
        "masks": [sentence_of(call) for call in masks],
        "settings": [sentence_of(call) for call in settings],
        "twice": [sentence_of(partial(torch.autograd.grad, slope.sum(), leaf)) for slope in slopes],
    }


def sentence_of(call: Callable[[], object]) -> str | None:
    """Its error, and the sentence up to a colon, after which it says what to do; ``None`` where it raises none."""
    try:
        call()
    except (TypeError, ValueError, RuntimeError, FrozenInstanceError) as error:
        return f"{type(error).__name__}: {str(error).partition(':')[0]}"
    return None


def set_field(of: object, name: str) -> None:
    """Write to it, which a frozen dataclass refuses."""
    setattr(of, name, 0)


def _waves(n: int, c: int, h: int, w: int, phase: float, device: str, dtype: torch.dtype) -> Float[Tensor, "n c h w"]:
    """In [0, 1], other in every image and channel."""
    plane = torch.arange(n * c, dtype=torch.float64).view(n, c, 1, 1)
    row = torch.arange(h, dtype=torch.float64).view(-1, 1)
    column = torch.arange(w, dtype=torch.float64)
    waves = 0.5 + 0.5 * torch.sin(0.7 * row + 0.03 * column + plane) * torch.cos((0.4 + phase) * column + phase)
    return waves.to(device, dtype)


def _pictures(n: int, h: int, w: int, device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return _waves(n, 3, h, w, 0.0, device, dtype), _waves(n, 3, h, w, 0.3, device, dtype)


class _ZeroLoss(MaskedLoss):
    """All that masked losses have in common."""

    def _loss(self, rendering: Tensor, target: Tensor, foreground: Tensor) -> Tensor:
        return (rendering * 0.0).where(foreground, 0.0).sum()
