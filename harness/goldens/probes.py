"""Run a golden's subject on its case, and say what the truth is."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from harness.cases.descriptors import LossCase, StepCase
from harness.cases.loss_inputs import LossInputs
from harness.cases.scenes import SceneCase, build_scene, picture_weights
from harness.errors import SubjectError
from harness.goldens.suite import GoldenKind, GoldenSpec, MaskedLossCase
from harness.goldens.terms import Array, Numbers, Term, Terms, Tolerance, Words
from harness.oracle.budget import RELATIVE, budget
from harness.oracle.policies import PROMISED
from harness.oracle.splatting import splatting_truth
from harness.oracle.step_model import StepModel
from harness.precision import Precision
from harness.subjects.adapted_loss import AdaptedLoss
from harness.subjects.door import load_object
from harness.subjects.loss import load_loss
from harness.subjects.renderer import AdaptedRenderer, load_renderer
from harness.subjects.step import StepFactory, load_fed_step
from harness.trials.fed_step import FedStepTrial
from harness.trials.loss_trial import LossTrial
from harness.trials.observation import observe_program

# A step's parameters are few float32 operations away from the plain model's.
_STEP_RELATIVE = 1e-5


@dataclass(frozen=True)
class Observed:
    """What the subject gave, and how far each term may lie from the truth in this precision."""

    terms: Terms
    truth_tolerances: Mapping[str, Tolerance]


class Probe(ABC):
    """One golden's subject and case."""

    def __init__(self) -> None:
        self._truths: dict[str, Terms] = {}

    @abstractmethod
    def observe(self, precision: Precision) -> Observed:
        """Run the subject. What it raises passes through."""

    def truth_key(self, precision: Precision) -> str | None:
        """The kind of inputs whose truth applies, or ``None`` for none."""
        return None

    def truth(self, precision: Precision) -> Terms:
        """The truth for that kind of inputs, computed once for each."""
        key = self.truth_key(precision)
        assert key is not None
        if key not in self._truths:
            self._truths[key] = self._compute_truth(precision)
        return self._truths[key]

    def _compute_truth(self, precision: Precision) -> Terms:
        raise NotImplementedError


def load_probe(spec: GoldenSpec, root: str | None) -> Probe:
    """The golden's subject, loaded through the door.

    Raises:
        SubjectError: it can't be loaded or does not fit.
    """
    subject = replace(spec.subject, root=root)
    if spec.kind is GoldenKind.LOSS:
        assert isinstance(spec.case, MaskedLossCase)
        return _LossProbe(load_loss(subject, try_out=False), spec.case, spec.truth)
    if spec.kind is GoldenKind.STEP:
        assert isinstance(spec.case, StepCase)
        return _StepProbe(load_fed_step(subject), spec.case, spec.truth)
    if spec.kind is GoldenKind.SCENE:
        assert isinstance(spec.case, SceneCase)
        return _SceneProbe(load_renderer(subject), spec.case, spec.truth)
    return _FunctionProbe(load_object(subject.spec, subject.root), spec)


def loss_probe(loss: AdaptedLoss, case: LossCase) -> Probe:
    """A loaded loss on a case, without a truth."""
    return _LossProbe(loss, MaskedLossCase(case), None)


def step_probe(factory: StepFactory, case: StepCase) -> Probe:
    """A loaded step on a fault program, without a truth."""
    return _StepProbe(factory, case, None)


class _LossProbe(Probe):
    """Terms ``value`` and ``gradient``."""

    def __init__(self, loss: AdaptedLoss, case: MaskedLossCase, truth: str | None) -> None:
        super().__init__()
        self._loss, self._case, self._truth = loss, case, truth

    def observe(self, precision: Precision) -> Observed:
        trial, inputs = self._inputs(precision)
        measured = trial.evaluate(inputs)
        allowed = budget(precision, measured.loss_scale)
        floor = allowed.gradient_floor * math.sqrt(measured.gradient.numel())
        return Observed(
            {"value": Numbers.of(measured.value), "gradient": Array.of(measured.gradient)},
            {
                "value": Tolerance(allowed.value_relative, allowed.value_floor),
                "gradient": Tolerance(allowed.gradient_relative, floor),
            },
        )

    def truth_key(self, precision: Precision) -> str | None:
        return None if self._truth is None else str(precision.input_dtype).removeprefix("torch.")

    def _compute_truth(self, precision: Precision) -> Terms:
        assert self._truth is not None
        # The truth lives on the CPU; only the inputs' dtype matters to it.
        trial, inputs = self._inputs(replace(precision, device="cpu"))
        truth = trial.truth_of(inputs)
        return {"value": Numbers.of(truth.value), "gradient": Array.of(truth.gradient)}

    def _inputs(self, precision: Precision) -> tuple[LossTrial, LossInputs]:
        trial = LossTrial(self._loss, precision, self._case.pair)
        mask = trial.inputs.mask
        return trial, replace(trial.inputs, mask=torch.where(mask > 0.5, mask, self._case.hidden_mask_value))


class _StepProbe(Probe):
    """Terms by action, and the parameters after each as rows of an array.

    Numbers are kept as they are and compared within tolerances: a digest of rounded ones would differ between machines
    wherever rounding has a choice.
    """

    def __init__(self, factory: StepFactory, case: StepCase, truth: str | None) -> None:
        super().__init__()
        self._factory, self._case, self._truth = factory, case, truth

    def observe(self, precision: Precision) -> Observed:
        seen = observe_program(FedStepTrial(self._factory, precision, self._case).act, self._case.actions)
        reports = [s.report for s in seen]
        terms: dict[str, Term] = {
            "action": Words(tuple(s.action for s in seen)),
            "loss": Numbers(tuple(math.nan if s.loss is None else s.loss for s in seen)),
            "norm": Numbers(
                tuple(math.nan if r is None or r.grad_norm is None else float(r.grad_norm) for r in reports)
            ),
            "scale": Numbers(tuple(s.after.scaler.scale for s in seen)),
            "growth-tracker": Words(tuple(s.after.scaler.growth_tracker for s in seen)),
            "passes": Words(tuple(s.after.passes for s in seen)),
            "updates": Words(tuple(s.after.updates for s in seen)),
            "schedule": Words(tuple(s.after.schedule_steps for s in seen)),
            "learning-rate": Numbers(tuple(s.after.learning_rate for s in seen)),
            "stepped": Words(tuple(None if r is None else r.stepped for r in reports)),
            "reason": Words(tuple(None if r is None else r.reason for r in reports)),
            "raised": Words(tuple(None if s.raised is None else type(s.raised).__name__ for s in seen)),
            "parameters": Array.of(
                torch.stack([torch.cat([p.flatten() for p in s.after.parameters.values()]) for s in seen])
            ),
        }
        numbers = ("norm", "scale", "learning-rate", "parameters")
        return Observed(terms, dict.fromkeys(numbers, Tolerance(relative=_STEP_RELATIVE)))

    def truth_key(self, precision: Precision) -> str | None:
        if self._truth is None:
            return None
        return "scaled" if precision.needs_scaler else "unscaled"

    def _compute_truth(self, precision: Precision) -> Terms:
        policies = PROMISED.handed(self._case.world.clip_norm, promised=True)
        model = StepModel(self._case, precision.needs_scaler, policies)
        expected = [model.after(action) for action in self._case.actions]
        return {
            "norm": Numbers(tuple(math.nan if e.grad_norm is None else e.grad_norm for e in expected)),
            "scale": Numbers(tuple(e.scaler[0].scale for e in expected)),
            "growth-tracker": Words(tuple(e.scaler[0].growth_tracker for e in expected)),
            "updates": Words(tuple(e.updates for e in expected)),
            "schedule": Words(tuple(e.updates for e in expected)),
            "stepped": Words(tuple(e.stepped if e.window_ended else None for e in expected)),
            "parameters": Array.of(
                torch.tensor([[e.parameters[s.name] for s in model.specs for _ in range(s.elements)] for e in expected])
            ),
        }


class _SceneProbe(Probe):
    """Terms ``image``, ``alpha``, ``depth``, and the gradient of their weighted sum by each of the scene's fields."""

    def __init__(self, renderer: AdaptedRenderer, case: SceneCase, truth: str | None) -> None:
        super().__init__()
        self._renderer, self._case, self._truth = renderer, case, truth

    def observe(self, precision: Precision) -> Observed:
        scene, device = build_scene(self._case), precision.device
        fields = {
            name: field.to(device, precision.input_dtype).requires_grad_() for name, field in scene.fields().items()
        }
        with precision.context():
            pictures = self._renderer(fields, scene.c2w.to(device), scene.intrinsics.to(device), scene.size)
        terms = self._terms(pictures, fields)
        # The truth is for the scene before its fields were rounded, which half precision would show.
        return Observed(terms, {name: Tolerance(RELATIVE, 1e-7) for name in terms})

    def truth_key(self, precision: Precision) -> str | None:
        return None if self._truth is None else "float64"

    def _compute_truth(self, precision: Precision) -> Terms:
        scene = build_scene(self._case)
        fields = {name: field.requires_grad_() for name, field in scene.fields().items()}
        return self._terms(vars(splatting_truth(scene)), fields)

    def _terms(self, pictures: dict[str, Tensor], fields: dict[str, Tensor]) -> Terms:
        terms: dict[str, Term] = {name: Array.of(picture) for name, picture in pictures.items()}
        total = sum(
            (picture.double() * picture_weights(self._case, picture.shape[1]).to(picture.device)).sum()
            for picture in pictures.values()
        )
        assert isinstance(total, Tensor)
        if self._case.gaussians:
            gradients = torch.autograd.grad(total, list(fields.values()))
            terms.update({f"gradient-{name}": Array.of(g) for name, g in zip(fields, gradients, strict=True)})
        return terms


class _FunctionProbe(Probe):
    """``function(device, **arguments)`` returns terms by name: tensors, numbers or words, or lists of one kind."""

    def __init__(self, function: Any, spec: GoldenSpec) -> None:
        super().__init__()
        if not callable(function):
            raise SubjectError(f"{spec.subject.spec} is a {type(function).__name__}, which can't be called.")
        self._function, self._spec = function, spec

    def observe(self, precision: Precision) -> Observed:
        with precision.context():
            # A copy: the function may change what it is given, and the next call is to get the same.
            found = self._function(precision.device, **copy.deepcopy(dict(self._spec.subject.arguments)))
        if not isinstance(found, Mapping):
            raise SubjectError(f"{self._spec.subject.spec} returned a {type(found).__name__}, not a mapping of terms.")
        return Observed({str(name): self._term(name, value) for name, value in found.items()}, {})

    def _term(self, name: str, value: Any) -> Term:
        if isinstance(value, Tensor):
            return Numbers.of(value.item()) if value.dim() == 0 else Array.of(value)
        if isinstance(value, float):
            return Numbers.of(value)
        values = tuple(value) if isinstance(value, (list, tuple)) else (value,)
        if values and all(isinstance(v, float) for v in values):
            return Numbers(values)
        if all(v is None or isinstance(v, (int, str, bool)) for v in values):
            return Words(values)
        raise SubjectError(f"{self._spec.subject.spec}: the term {name!r} is neither tensor, numbers nor words.")
