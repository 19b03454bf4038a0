"""The SSIM loss as one differentiable function of two images and a mask, by whichever path can be had.

All paths of :mod:`gslrm.model.ssim_paths` calculate the gradient together with the value, only where one is asked for,
and look at nothing that the mask hides.

Inside ``torch.compile`` and ``torch.export`` the same is an operator of torch's library, ``gslrm::ssim_loss``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from gslrm.model.image_checks import FAR_OUTSIDE, check_values, has_nan, refuse_nan_mask
from gslrm.model.ssim_difference import SsimConstants
from gslrm.model.ssim_fused import fused_ssim_loss
from gslrm.model.ssim_paths import path_of, tiled
from gslrm.model.ssim_plain import plain_ssim_loss

Gradients = tuple[Tensor | None, Tensor | None]


@dataclass(frozen=True)
class SsimTerms:
    """What the loss is, besides its images.

    Attributes:
        path: one of :data:`gslrm.model.ssim_paths.PATHS`.
        checked_range: L, where the images' values are held against it; 0 where they are not looked at.
        names: what the images are called when they are refused.
    """

    constants: SsimConstants
    path: str = "auto"
    checked_range: float = 0.0
    names: tuple[str, str] = ("x", "y")


def ssim_loss(
    x: Float[Tensor, "n c h w"],
    y: Float[Tensor, "n c h w"],
    mask: Shaped[Tensor, "n 1 h w"] | None,
    terms: SsimTerms,
) -> Float[Tensor, ""]:
    """The mean over windows, channels and images of 1 − SSIM, in [0, 2], in the images' dtype whatever autocast says.

    Where the mask is 0.5 or less both images count as half of ``terms.constants.offset``. Differentiable once, by x and
    by y; under ``torch.func.grad`` and ``vmap`` too.

    Args:
        x, y: float32 or float64, both, of sides of 11 pixels at least.
        mask: ``None`` shows everything.

    Raises:
        ValueError: NaN in the mask; values in the foreground that are not finite or far outside the checked range; the
            path is not one for tensors on their device.
        RuntimeError: what the path needs can't be imported.
    """
    wants = _wants(x, y)
    if torch.compiler.is_compiling():
        c = terms.constants
        numbers = [c.c1, c.c2, c.offset, terms.checked_range]
        of_all: tuple[Tensor, Tensor, Tensor] = torch.ops.gslrm.ssim_loss(
            x, y, mask, numbers, terms.path, *terms.names, *wants
        )
        return of_all[0]
    # The second takes much longer to call.
    function = _TransformedSsimLoss if _TRANSFORMED() else _SsimLoss
    loss: Tensor = function.apply(x, y, mask, _Call(terms, wants))
    return loss


# Whether vmap, torch.func.grad or the like is at work; a torch that doesn't say is taken at the worst.
_TRANSFORMED: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)


def _wants(x: Tensor, y: Tensor) -> tuple[bool, bool]:
    return torch.is_grad_enabled() and x.requires_grad, torch.is_grad_enabled() and y.requires_grad


class _Call:
    """One call: what is asked, and the gradients from the forward pass until the first backward pass takes them."""

    def __init__(self, terms: SsimTerms, wants: tuple[bool, bool]) -> None:
        self.terms = terms
        self.wants = wants
        self.gradients: list[tuple[Gradients, Tensor | None]] = []


class _SsimLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, mask: Tensor | None, call: _Call) -> Tensor:
        ctx.call = call
        # For a second backward pass alone: the first has its gradients ready.
        ctx.save_for_backward(x, y, mask)
        return _forward(x, y, mask, call)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return _backward(ctx, upstream)


class _TransformedSsimLoss(torch.autograd.Function):
    """The same, as torch.func's transforms want it."""

    @staticmethod
    def forward(x: Tensor, y: Tensor, mask: Tensor | None, call: _Call) -> Tensor:
        return _forward(x, y, mask, call)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *images, ctx.call = inputs
        ctx.save_for_backward(*images)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return _backward(ctx, upstream)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        *images, call = inputs
        losses = []
        for x, y, mask in _unbatched(info.batch_size, in_dims, images):
            # Whether a gradient is asked for from outside of vmap can't be told within.
            wants = _wants(x, y)
            asked = _Call(call.terms, (call.wants[0] or wants[0], call.wants[1] or wants[1]))
            losses.append(_TransformedSsimLoss.apply(x, y, mask, asked))
        return torch.stack(losses), 0


def _forward(x: Tensor, y: Tensor, mask: Tensor | None, call: _Call) -> Tensor:
    loss, by_x, by_y = _evaluate(x, y, mask, call.terms, call.wants)
    if any(call.wants):
        call.gradients.append(((by_x, by_y), mask))
    return loss


def _backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    call: _Call = ctx.call
    if not torch.is_grad_enabled():
        try:
            (by_x, by_y), mask = call.gradients.pop()
        except IndexError:  # taken, by a pass before this one
            pass
        else:
            return _scaled(by_x, upstream, mask), _scaled(by_y, upstream, mask), None, None
    found = iter(_SsimGradients.apply(upstream, *ctx.saved_tensors, call.terms, call.wants))
    return *(next(found) if wanted else None for wanted in call.wants), None, None


class _SsimGradients(torch.autograd.Function):
    """The gradients that are wanted, times the upstream gradient: for whoever differentiates a second time."""

    @staticmethod
    def forward(
        upstream: Tensor, x: Tensor, y: Tensor, mask: Tensor | None, terms: SsimTerms, wants: tuple[bool, bool]
    ) -> tuple[Tensor, ...]:
        _, *gradients = _evaluate(x, y, mask, terms, wants)
        scaled = (_scaled(gradient, upstream, mask) for gradient in gradients)
        return tuple(gradient for gradient in scaled if gradient is not None)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        raise RuntimeError(
            "the SSIM loss can be differentiated once only, since its gradient is worked out by hand. "
            "For a second derivative write 1 − SSIM in float64 with torch's own operations."
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        *tensors, terms, wants = inputs
        parts = [_SsimGradients.apply(*part, terms, wants) for part in _unbatched(info.batch_size, in_dims, tensors)]
        stacked = tuple(torch.stack(each) for each in zip(*parts, strict=True))
        return stacked, (0,) * len(stacked)


def _unbatched(size: int, dims: tuple[int | None, ...], tensors: list[Any]) -> Iterator[list[Any]]:
    for i in range(size):
        yield [t if dim is None else t.select(dim, i) for t, dim in zip(tensors, dims, strict=False)]


def _scaled(gradient: Tensor | None, upstream: Tensor, mask: Tensor | None) -> Tensor | None:
    """The gradient, which nobody else holds, times the upstream gradient, in place; 0 where the mask hides."""
    if gradient is None:
        return None
    if gradient.device.type == "cpu":
        scale = float(upstream)
        if scale == 1.0:
            return gradient
        gradient.mul_(scale)
        if math.isfinite(scale):
            return gradient
    else:
        # Without looking at its value, which would wait for the GPU.
        gradient.mul_(upstream)
    # Infinity times 0 is NaN.
    return gradient if mask is None else gradient.masked_fill_(~(mask > 0.5), 0.0)


def _evaluate(
    x: Tensor, y: Tensor, mask: Tensor | None, terms: SsimTerms, wants: tuple[bool, bool]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The loss, and its gradients by x and by y where they are wanted."""
    path = path_of(terms.path, x, y, mask)
    if path != "torch":
        x, y, mask = _as_in_memory(x), _as_in_memory(y), None if mask is None else _as_in_memory(mask)
    if path == "numba":
        limit = FAR_OUTSIDE * terms.checked_range if terms.checked_range else math.inf
        fused = fused_ssim_loss(x, y, mask, terms.constants, wants_x=wants[0], wants_y=wants[1], limit=limit)
        if fused.nan_in_mask:
            refuse_nan_mask()
        if fused.suspicious and terms.checked_range:
            _check(x, y, None if mask is None else mask > 0.5, terms)
        return torch.tensor(fused.value, dtype=x.dtype, device="cpu"), fused.by_x, fused.by_y
    foreground = None
    if mask is not None:
        if has_nan(mask):
            refuse_nan_mask()
        foreground = mask > 0.5
        # The first pixel mostly spares a look at them all.
        if foreground.device.type == "cpu" and bool(foreground[0, 0, 0, 0]) and bool(foreground.all()):
            foreground = None  # nothing is hidden
    if terms.checked_range:
        _check(x, y, foreground, terms)
    by_path = tiled() if path == "triton" else plain_ssim_loss
    with torch.autocast(x.device.type, enabled=False):
        return by_path(x, y, foreground, terms.constants, wants_x=wants[0], wants_y=wants[1])


def _as_in_memory(tensor: Tensor) -> Tensor:
    # Some are the negative of what lies there, until it is asked for.
    return tensor.resolve_neg() if tensor.is_neg() else tensor


def _check(x: Tensor, y: Tensor, foreground: Tensor | None, terms: SsimTerms) -> None:
    for image, name in zip((x, y), terms.names, strict=True):
        check_values(image, name, terms.checked_range, foreground)


# The schema in words, since older versions of torch can't read it off annotations that are strings.
_SCHEMA = (
    "(Tensor x, Tensor y, Tensor? mask, float[] numbers, str path, str x_name, str y_name, bool wants_x, bool wants_y)"
    " -> (Tensor, Tensor, Tensor)"
)


@torch.library.custom_op("gslrm::ssim_loss", mutates_args=(), schema=_SCHEMA)
def _operator(
    x: Tensor,
    y: Tensor,
    mask: Tensor | None,
    numbers: list[float],
    path: str,
    x_name: str,
    y_name: str,
    wants_x: bool,
    wants_y: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss and both gradients, empty where they aren't wanted; ``numbers`` are C1, C2, t and the checked range."""
    c1, c2, offset, checked_range = numbers
    terms = SsimTerms(SsimConstants(c1, c2, offset), path, checked_range, (x_name, y_name))
    loss, by_x, by_y = _evaluate(x, y, mask, terms, (wants_x, wants_y))
    return loss, x.new_empty(0) if by_x is None else by_x, y.new_empty(0) if by_y is None else by_y


@_operator.register_fake
def _(x, y, mask, numbers, path, x_name, y_name, wants_x, wants_y):
    return (
        x.new_empty(()),
        torch.empty_like(x) if wants_x else x.new_empty(0),
        torch.empty_like(y) if wants_y else y.new_empty(0),
    )


def _keep_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.wants = inputs[-2:]
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(inputs[2], output[1], output[2])


def _from_gradients(ctx: Any, upstream: Tensor | None, *others: Tensor | None) -> tuple[Tensor | None, ...]:
    nothing = (None,) * 6
    if upstream is None:
        return None, None, None, *nothing
    mask, *gradients = ctx.saved_tensors
    found = []
    for gradient, wanted in zip(gradients, ctx.wants, strict=True):
        scaled = upstream * gradient if wanted else None
        # Infinity times 0 is NaN.
        found.append(scaled if scaled is None or mask is None else scaled.where(mask > 0.5, 0.0))
    return *found, None, *nothing


_operator.register_autograd(_from_gradients, setup_context=_keep_gradients)
