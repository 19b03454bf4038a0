"""A loss subject on one case under one precision: what is measured, each at most once."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

import harness
from harness.cases.descriptors import LossCase
from harness.cases.image_folder import ImageFolder
from harness.cases.loss_inputs import LossInputs, MaskedPair
from harness.errors import HarnessError, HarnessFailure, UsageError, describe_exception
from harness.oracle.budget import ErrorBudget, budget
from harness.oracle.definitions import Counting
from harness.oracle.flatness import flatness
from harness.oracle.levels import Level, Noise, gravest
from harness.oracle.truth import Truth
from harness.precision import Precision, refusing_unknown_ops
from harness.process_state import kept_state
from harness.protocols import LossKind, LossSubject
from harness.subject_spec import AUTO_TRUTH
from harness.trials.evaluation import Evaluation, without_graph
from harness.trials.known_inputs import KnownInputs

CALLERS = tuple(Path(harness.__file__).parent / part for part in ("subjects/adapted_loss.py", "cases", "trials"))
"""Files and folders of who calls a loss: their compositing, and the 1 − value of a similarity, are none of its ops."""

# A case's tensors are kept a few dozen times over, in float64: this many take some 10 GB.
_MOST_ELEMENTS = 2**26

# float16 gradients are taken at the largest of these loss scales that leaves them finite, as a GradScaler settles.
_LOSS_SCALES = (2.0**16, 2.0**12, 2.0**8, 2.0**4, 1.0)


def differs(first: Tensor, second: Tensor) -> Tensor:
    """Where two tensors differ; NaN and NaN don't."""
    return (first != second) & ~(first.isnan() & second.isnan())


def _leaf(inputs: LossInputs) -> Tensor:
    """The tensor to differentiate by, as a copy that takes a gradient."""
    return inputs.tensors()[0].detach().clone(memory_format=torch.preserve_format).requires_grad_()


class LossTrial:
    """The subject and what it is meant to be, the case and its tensors, cast as the precision says.

    Args:
        known: what other trials of the subject's definition have built, and what the oracle said of it.

    Attributes:
        rounds_alone: nothing but float32's rounding is at work: the precision is no other, or the subject has been seen
            not to care (:meth:`computes_in_float32`).
    """

    def __init__(
        self,
        subject: LossSubject,
        precision: Precision,
        case: LossCase,
        folder: ImageFolder | None = None,
        known: KnownInputs | None = None,
    ) -> None:
        self.subject = subject
        self.precision = precision
        self.case = case
        self.definition = subject.definition
        self._is_another = False
        self.rounds_alone = precision.input_dtype == torch.float32 and precision.autocast_dtype is None
        elements = 3 * case.images * case.height * case.width
        if elements > _MOST_ELEMENTS:
            raise UsageError(
                f"the case's images have {elements} numbers; this version builds cases of at most {_MOST_ELEMENTS}."
            )
        try:
            self._known = known or KnownInputs(subject.kind, folder)
            self.built: LossInputs = self._known.built(case)
        except MemoryError as error:
            raise UsageError(f"this machine hasn't the memory for the case's {elements} numbers.") from error
        self.inputs: LossInputs = self.built.cast(precision.device, precision.input_dtype)

    @property
    def binding(self) -> bool:
        """The definition was named, and not found out."""
        return self.subject.name.truth != AUTO_TRUTH

    @functools.cached_property
    def noise(self) -> Noise:
        """What rounding may do to the loss of these pictures."""
        definition, pair = self.definition, self.built
        if not definition.subtracts or not isinstance(pair, MaskedPair) or not pair.rendering.numel():
            return definition.noise()
        return definition.noise(self._known.flatness(self.case, self.rounds_alone, self._flatness))

    def _flatness(self, inputs: LossInputs) -> float:
        assert isinstance(inputs, MaskedPair)
        masked = self.definition.counting is Counting.COMPOSITED
        shown = inputs.composited() if masked else inputs
        seen = None
        if self.rounds_alone:
            # What the mask hides has been made alike: else a small picture before much grey could be wrong unnoticed.
            seen = inputs.mask > 0.5 if masked else torch.ones_like(inputs.mask, dtype=torch.bool)
        window, uniform = self.definition.window, self.definition.uniform
        return flatness(shown.rendering.double(), shown.target.double(), window, uniform, seen)

    def level_of_zero(self, measured: Evaluation) -> Level:
        """How grave it is that a value and a gradient that should be zero are not."""
        gradient, noise = measured.gradient, self.noise.at(0.0)
        steepest = float(gradient.abs().max()) if gradient.numel() else 0.0
        of_steepest = noise.of_element(steepest, max(1, gradient.numel()))
        return gravest(noise.of_value(abs(measured.value)), of_steepest)

    @functools.cached_property
    def evaluation(self) -> Evaluation:
        """The subject on the case itself, run once for all properties that ask for no more than that."""
        if self._is_another:
            return self.evaluate(self.inputs)
        return self._known.evaluation(self.case, self.precision.name, lambda: self.evaluate(self.inputs))

    @functools.cached_property
    def truth(self) -> Truth:
        """The oracle on the same cast tensors, whatever the subject has written into them."""
        return self._known.truth(self.case, self.precision.device, self.precision.input_dtype, self.truth_of)

    def truth_of(self, inputs: LossInputs) -> Truth:
        """The oracle on other inputs."""
        convolutions = self.subject.convolutions
        try:
            return self.definition.truth(inputs, self._known.exact(convolutions))
        except HarnessError:
            raise
        except Exception as error:
            raise HarnessFailure(f"the oracle of {self.definition.name} raised {describe_exception(error)}") from error

    @property
    def gradient_uncertainty(self) -> float:
        """How far float32's rounding may take the gradient; looked up only where the loss has kinks."""
        return self.truth.gradient_uncertainty if self.definition.kinks else 0.0

    @property
    def value_uncertainty(self) -> float:
        """Likewise the value."""
        return self.truth.value_uncertainty if self.definition.kinks else 0.0

    @property
    def budget(self) -> ErrorBudget:
        return budget(self.precision, self.evaluation.loss_scale)

    @functools.cached_property
    def own_value(self) -> float:
        """The subject's value alone on the case itself, run once."""
        return self.value(self.inputs)

    def value(self, inputs: LossInputs) -> float:
        """The subject's value alone, without a graph."""
        with torch.no_grad(), self.precision.context():
            return float(self.forward(inputs))

    def computes_in_float32(self) -> bool:
        """The subject gives what it gives of the same numbers in float32 without autocast, to the bit."""
        wide = self.inputs.cast(self.precision.device, torch.float32)
        with torch.no_grad():
            return self.own_value == float(self.forward(wide))

    def of(self, subject: LossSubject) -> LossTrial:
        """The same trial of another instance of the subject."""
        other = copy.copy(self)
        other.subject, other._is_another = subject, True
        for measured in ("evaluation", "truth", "own_value"):
            vars(other).pop(measured, None)
        return other

    def evaluate(self, inputs: LossInputs) -> Evaluation:
        """The subject's value and gradient."""
        return self.backward_passes(inputs, (1.0,))[0]

    def backward_passes(self, inputs: LossInputs, upstream: Sequence[float]) -> list[Evaluation]:
        """The subject is called once, then differentiated under each of these upstream gradients over one graph.

        Each gradient is that under its upstream gradient, which is not divided out.
        """
        first = _leaf(inputs)
        with self.precision.context():
            loss = self.forward(inputs.with_first(first))
        value = float(loss.detach())
        if not loss.requires_grad:
            return [without_graph(value, first) for _ in upstream]
        return [Evaluation(value, *self._backward(loss, first, times)) for times in upstream]

    def of_a_sum(self, several: Sequence[LossInputs]) -> list[Evaluation]:
        """The subject is called once for each of these, and the sum of the losses is differentiated by all.

        Each value is that of its call.
        """
        leaves = [_leaf(inputs) for inputs in several]
        with self.precision.context():
            losses = [self.forward(inputs.with_first(leaf)) for inputs, leaf in zip(several, leaves, strict=True)]
        values = [float(loss.detach()) for loss in losses]
        if not all(loss.requires_grad for loss in losses):
            nothing = [torch.zeros_like(leaf, dtype=torch.float64).cpu() for leaf in leaves]
            return [Evaluation(v, none, 1.0, has_graph=False) for v, none in zip(values, nothing, strict=True)]
        gradients, scale = self._backward_by(sum(losses[1:], losses[0]), leaves, 1.0)
        return [Evaluation(v, gradient, scale) for v, gradient in zip(values, gradients, strict=True)]

    def evaluate_by_both(self, pair: MaskedPair) -> tuple[Evaluation, Evaluation]:
        """The subject called once with a rendering and a target that require gradients, and differentiated by each.

        That by the target has no graph where no gradient reaches it.
        """
        rendering, target = (image.detach().clone().requires_grad_() for image in (pair.rendering, pair.target))
        with self.precision.context():
            loss = self.forward(replace(pair, rendering=rendering, target=target))
        value = float(loss.detach())
        if not loss.requires_grad:
            return without_graph(value, rendering), without_graph(value, target)
        by_rendering = Evaluation(value, *self._backward(loss, rendering, 1.0))
        (reached,) = torch.autograd.grad(loss, target, retain_graph=True, allow_unused=True)
        if reached is None:
            return by_rendering, without_graph(value, target)
        return by_rendering, Evaluation(value, *self._backward(loss, target, 1.0))

    def _backward(self, loss: Tensor, first: Tensor, upstream: float) -> tuple[Tensor, float]:
        """The gradient, and the loss scale that was divided out of it. The graph is kept."""
        (gradient,), scale = self._backward_by(loss, [first], upstream)
        return gradient, scale

    def _backward_by(self, loss: Tensor, leaves: Sequence[Tensor], upstream: float) -> tuple[list[Tensor], float]:
        """Likewise by several."""
        for scale in _LOSS_SCALES if self.precision.needs_scaler else (1.0,):
            # The scale multiplies in float32, as GradScaler's does.
            scaled = loss.float() * scale if loss.dtype != torch.float64 else loss * scale
            # A factor, and not a gradient given to grad(): for that torch would import sympy, which takes 0.4 s.
            scaled = scaled if upstream == 1.0 else scaled * upstream
            found = torch.autograd.grad(scaled, leaves, retain_graph=True, materialize_grads=True)
            if all(bool(torch.isfinite(gradient).all()) for gradient in found):
                break
        return [gradient.detach().double().cpu() / scale for gradient in found], scale

    @refusing_unknown_ops()
    def forward(self, inputs: LossInputs) -> Tensor:
        """The subject called in whatever context is current."""
        composited = self.subject.kind is LossKind.BARE and self.definition.counting is Counting.COMPOSITED
        if composited and isinstance(inputs, MaskedPair):
            # What a caller of a bare loss does himself.
            inputs = inputs.composited()
        with kept_state():
            return self.subject(*inputs.tensors())
