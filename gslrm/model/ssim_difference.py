"""1 − SSIM as a sum of squares of the difference image, with its gradient by hand.

The textbook form subtracts E[x²] − E[x]² and then 1 − SSIM: for nearly equal images both cancel, and nothing
keeps the result in [0, 2].  With d = x − y, s = x + y − t (any constant t), window means m = F d, n = F s and
variances v = F d² − m², u = F s² − n², the same quantity is

    A = m² / Da      Da = ((n + t)² + m²)/2 + C1       A = 1 − luminance term
    B = v  / Db      Db = (u + v)/2 + C2               B = 1 − contrast·structure term
    1 − SSIM = A + B − A·B = 1 − (1 − A)(1 − B)

which follows from 2ab = ((a+b)² − (a−b)²)/2 applied to means and covariances (SSIM: Wang, Bovik, Sheikh and
Simoncelli, 2004, with C3 = C2/2).  A and B lie in [0, 2], so the value lies in [0, 2]; both are relative to d, so
equal images give exactly zero in value and gradient and nearly equal ones keep all their digits.  t is free;
twice the value that fills most of the picture keeps n and u small.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gslrm.model.gaussian_window import WINDOW_SIZE, window_mean, window_mean_adjoint

K1, K2 = 0.01, 0.03
# Planes worked on at once hold about this many pixels: it bounds the memory, at some 16 MB.
CHUNK_PIXELS = 1 << 18


@dataclass(frozen=True)
class SsimConstants:
    """C1 = (0.01·L)², C2 = (0.03·L)² of SSIM for images of range L, and the offset t of the sum image."""

    c1: float
    c2: float
    offset: float

    @staticmethod
    def of(data_range: float, offset: float) -> SsimConstants:
        return SsimConstants((K1 * data_range) ** 2, (K2 * data_range) ** 2, offset)


def ssim_loss_difference_form(
    difference: Float[Tensor, "n c h w"],
    total: Float[Tensor, "n c h w"],
    constants: SsimConstants,
    window_weight: Float[Tensor, "n 1 h-10 w-10"] | None = None,
) -> Float[Tensor, ""]:
    """Mean over windows and channels of 1 − SSIM, in the inputs' dtype (float32 or float64), in [0, 2].

    Args:
        difference: d = x − y.
        total: s = x + y − t, with t = ``constants.offset``.
        window_weight: weight of each window; ``None`` weighs all alike.  The result is then the weighted *sum*
            over windows and mean over channels: whoever gives weights normalises them.

    Differentiable once, by ``difference`` and ``total``.
    """
    wants_gradient = torch.is_grad_enabled() and (difference.requires_grad or total.requires_grad)
    loss: Tensor = _DifferenceForm.apply(difference, total, constants, window_weight, wants_gradient)
    return loss


class _DifferenceForm(torch.autograd.Function):
    """Value and gradient in one pass over chunks of planes: nothing but the two gradients is kept."""

    @staticmethod
    def forward(ctx, difference, total, constants, window_weight, wants_gradient):
        n, c, h, w = difference.shape
        rows, columns = h - WINDOW_SIZE + 1, w - WINDOW_SIZE + 1
        d_planes, s_planes = difference.reshape(n * c, h, w), total.reshape(n * c, h, w)
        weight_planes = None
        if window_weight is not None:
            weight_planes = (window_weight / c).expand(n, c, rows, columns).reshape(n * c, rows, columns)

        chunk = max(1, CHUNK_PIXELS // (h * w))
        sums: list[Tensor] = []
        d_gradients: list[Tensor] = []
        s_gradients: list[Tensor] = []
        for start in range(0, n * c, chunk):
            part = slice(start, start + chunk)
            weight = 1.0 / (n * c * rows * columns) if weight_planes is None else weight_planes[part]
            value, by_x, by_y = planes_loss(
                d_planes[part], s_planes[part], constants, weight, wants_gradient, wants_gradient
            )
            sums.append(value)
            if by_x is not None and by_y is not None:
                # By the images that d and s are of: x = (d + s + t)/2, y = (s − d + t)/2.
                d_gradients.append(0.5 * (by_x - by_y))
                s_gradients.append(0.5 * (by_x + by_y))
        if wants_gradient:
            ctx.save_for_backward(
                torch.cat(d_gradients).reshape_as(difference), torch.cat(s_gradients).reshape_as(total)
            )
        # The upper end is reached only through rounding, where C1 and C2 vanish beside the images' values.
        return torch.stack(sums).sum().clamp(max=2.0)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream):
        d_gradient, s_gradient = ctx.saved_tensors
        return upstream * d_gradient, upstream * s_gradient, None, None, None


def planes_loss(
    d: Float[Tensor, "p h w"],
    s: Float[Tensor, "p h w"],
    constants: SsimConstants,
    weight: float | Float[Tensor, "p h-10 w-10"],
    wants_x: bool,
    wants_y: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Weighted sum of 1 − SSIM over the planes' windows, and its gradients by x and by y where they are wanted.

    Args:
        d, s: x − y and x + y − t.
    """
    p = d.shape[0]
    images = d.new_empty((4 * p, *d.shape[1:]))
    images[:p], images[p : 2 * p] = d, s
    torch.mul(images[: 2 * p], images[: 2 * p], out=images[2 * p :])
    m, n, v, u = window_mean(images).split(p)
    # A variance that rounding took below zero is zero; its gradient is let through all the same: stopping it
    # would change the gradient by far more than the rounding did.
    v.addcmul_(m, m, value=-1.0).clamp_(min=0.0)
    u.addcmul_(n, n, value=-1.0).clamp_(min=0.0)
    mean_sum, m_square = n + constants.offset, m * m
    luminance = torch.addcmul(m_square, mean_sum, mean_sum).mul_(0.5).add_(constants.c1).reciprocal_()
    contrast = torch.add(u, v).mul_(0.5).add_(constants.c2).reciprocal_()
    a = m_square.mul_(luminance)
    b = v.mul_(contrast)
    value = (torch.addcmul(a + b, a, b, value=-1.0) * weight).sum()
    if not (wants_x or wants_y):
        return value, None, None

    by_a = luminance.addcmul_(luminance, b, value=-1.0).mul_(weight)
    by_b = contrast.addcmul_(contrast, a, value=-1.0).mul_(weight)
    by_u = torch.mul(by_b, b).mul_(-0.5)
    by_v = by_b.add_(by_u)
    by_m = torch.mul(by_a, 2.0 - a).sub_(by_v, alpha=2.0).mul_(m)
    by_n = by_a.mul_(a).mul_(mean_sum).neg_().addcmul_(n, by_u, value=-2.0)
    means = ([by_n + by_m] if wants_x else []) + ([by_n - by_m] if wants_y else [])
    # Laid out as they are in memory.
    spread = torch.cat([part.transpose(1, 2) for part in (by_v, by_u, *means)]).transpose(1, 2)
    by_v, by_u, *gradients = window_mean_adjoint(spread).split(p)
    by_d, by_s = by_v.mul_(d).mul_(2.0), by_u.mul_(s).mul_(2.0)
    by_x = gradients.pop(0).add_(by_s).add_(by_d) if wants_x else None
    by_y = gradients.pop(0).add_(by_s).sub_(by_d) if wants_y else None
    return value, by_x, by_y
