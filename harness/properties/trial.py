"""A loss subject on one case under one precision: what is measured, each at most once."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from harness.cases.descriptors import LossCase
from harness.cases.image_folder import ImageFolder
from harness.cases.tensors import MaskedPair, build_pair
from harness.oracle.budget import ErrorBudget, budget
from harness.oracle.masked_ssim import Truth, masked_ssim_truth
from harness.precision import Precision
from harness.protocols import LossKind, LossSubject

# float16 gradients are taken at the largest of these loss scales that leaves them finite, as a GradScaler settles.
_LOSS_SCALES = (2.0**16, 2.0**12, 2.0**8, 2.0**4, 1.0)


@dataclass(frozen=True)
class Measurement:
    """A value, and its gradient by the rendering with the loss scale divided out, on the CPU in float64."""

    value: float
    gradient: Float[Tensor, "n 3 h w"]
    loss_scale: float

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.value) and bool(torch.isfinite(self.gradient).all())


class LossTrial:
    """The subject, the case and its tensors, cast as the precision says."""

    def __init__(
        self, subject: LossSubject, precision: Precision, case: LossCase, folder: ImageFolder | None = None
    ) -> None:
        self.subject = subject
        self.precision = precision
        self.case = case
        self.built = build_pair(case, folder)
        self.pair = self._cast(self.built)

    @functools.cached_property
    def measurement(self) -> Measurement:
        """The subject on the case itself."""
        return self.measure(self.pair)

    @functools.cached_property
    def truth(self) -> Truth:
        """The oracle on the same cast tensors."""
        return masked_ssim_truth(self.pair)

    @property
    def budget(self) -> ErrorBudget:
        return budget(self.precision, self.measurement.loss_scale)

    def value(self, pair: MaskedPair) -> float:
        """The subject's value alone, without a graph."""
        with torch.no_grad(), self.precision.context():
            return float(self.forward(pair.rendering, pair))

    def measure(self, pair: MaskedPair) -> Measurement:
        """The subject's value and gradient."""
        rendering = pair.rendering.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        with self.precision.context():
            loss = self.forward(rendering, pair)
        if not loss.requires_grad:
            return Measurement(float(loss.detach()), torch.zeros_like(pair.rendering, dtype=torch.float64).cpu(), 1.0)
        for scale in _LOSS_SCALES if self.precision.needs_scaler else (1.0,):
            # The scale multiplies in float32, as GradScaler's does.
            scaled = loss.float() * scale if loss.dtype != torch.float64 else loss * scale
            (gradient,) = torch.autograd.grad(scaled, rendering, retain_graph=True, materialize_grads=True)
            if bool(torch.isfinite(gradient).all()):
                break
        return Measurement(float(loss.detach()), gradient.detach().double().cpu() / scale, scale)

    def forward(self, rendering: Tensor, pair: MaskedPair) -> Tensor:
        """The subject called with this rendering in the pair's place, in whatever context is current."""
        if self.subject.kind is LossKind.BARE:
            # What a caller of a bare loss does himself.
            shown = replace(pair, rendering=rendering).composited()
            return self.subject(shown.rendering, shown.target, shown.mask)
        return self.subject(rendering, pair.target, pair.mask)

    def _cast(self, pair: MaskedPair) -> MaskedPair:
        device, dtype = self.precision.device, self.precision.input_dtype
        rendering, target, mask = (part.to(device, dtype) for part in (pair.rendering, pair.target, pair.mask))
        return MaskedPair(rendering, target, mask)
