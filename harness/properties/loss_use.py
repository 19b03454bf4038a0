"""How the loss behaves as a function: effects, repetition, backward passes, bad input."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from harness.cases.descriptors import Flaw, MaskKind, PerturbationKind
from harness.cases.loss_inputs import LossInputs, MaskedPair
from harness.cases.strategies import DIFFERENT
from harness.errors import SubjectError, describe_exception, reraise_unless_subjects
from harness.oracle.budget import budget
from harness.oracle.levels import Level
from harness.precision import refusing_unknown_ops
from harness.process_state import kept_state, read_state
from harness.properties.loss_property import FOREGROUND, loss_property
from harness.properties.sameness import same_gradient, same_value
from harness.properties.verdict import VACUOUS, Verdict, holds_if
from harness.protocols import LossKind
from harness.trials.loss_trial import LossTrial, differs

# Powers of two, so that no dtype rounds the gradient otherwise than under 1. One is beyond 1 and negative: losses that
# leave the upstream gradient out, clamp it or take its size are then all wrong.
_UPSTREAM = (-2.0, 0.5)


@loss_property(effort=0.25)
@refusing_unknown_ops()
def side_effects(trial: LossTrial) -> Verdict:
    """The call, with gradients or without, leaves its inputs, the random state, the process' modes (torch's, NumPy's)
    and hooks, and the working directory as they were."""
    tensors = trial.inputs.named()
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    random_state, others = torch.random.get_rng_state(), _other_random_states()
    uses: tuple[tuple[str, Callable[[], object]], ...] = (
        ("the call", lambda: trial.evaluate(trial.inputs)),
        ("the call under no_grad", lambda: trial.value(trial.inputs)),
        ("the call in inference_mode", lambda: _in_inference_mode(trial)),
    )
    for use, call in uses:
        try:
            call()
        except BaseException as error:
            return _raising(use, error)
        changed = [name for name, tensor in tensors.items() if not torch.equal(tensor, before[name])]
        if changed:
            return holds_if(False, f"{use} changed its {', '.join(changed)}")
        asking = [name for name, tensor in tensors.items() if tensor.requires_grad or tensor.grad is not None]
        if asking:
            return holds_if(False, f"{use} has its {', '.join(asking)} take gradients")
    if not torch.equal(torch.random.get_rng_state(), random_state):
        return holds_if(False, "the call drew from torch's global random numbers")
    for name, state in _other_random_states().items():
        if state != others[name]:
            return holds_if(False, f"the call drew from {name}'s global random numbers")
    with trial.precision.context(), kept_state():
        inside = read_state()
        trial.subject(*trial.inputs.tensors())
        changes = inside.changes(read_state())
    return holds_if(not changes, f"the call changed {', '.join(changes)}")


def _in_inference_mode(trial: LossTrial) -> float:
    with torch.inference_mode():
        return trial.value(trial.inputs)


def _raising(where: str, error: BaseException) -> Verdict:
    """What the subject raised there violates the property, as it does anywhere; in words that say where it was."""
    reraise_unless_subjects(error)
    return replace(holds_if(False, f"{where} raises {describe_exception(error)}"), raised=True)


def _other_random_states() -> dict[str, Any]:
    return {"Python": random.getstate(), "NumPy": _comparable(np.random.get_state(legacy=False))}


def _comparable(state: Any) -> Any:
    """The same without arrays, which have no plain ``==``."""
    if isinstance(state, dict):
        return {name: _comparable(part) for name, part in state.items()}
    return state.tobytes() if isinstance(state, np.ndarray) else state


@loss_property(effort=0.25)
def repeatable(trial: LossTrial) -> Verdict:
    """The same call gives the same bits."""
    first, second = trial.evaluate(trial.inputs), trial.evaluate(trial.inputs)
    if first.value != second.value and not (math.isnan(first.value) and math.isnan(second.value)):
        verdict = holds_if(False, f"the same call gave {first.value!r}, then {second.value!r}")
        return verdict.at(trial.noise.of_value(abs(first.value - second.value)))
    changed = int(differs(first.gradient, second.gradient).sum())
    apart = float((first.gradient - second.gradient).norm())
    return holds_if(
        changed == 0,
        f"the same call gave the loss {first.value!r} twice, but {changed} of {first.gradient.numel()} elements of its "
        f"gradient changed",
    ).graded(lambda: trial.noise.of_gradient(apart, first.gradient.numel()))


@loss_property(compares=True, effort=0.25)
def modes(trial: LossTrial) -> Verdict:
    """In inference_mode, in eval mode and of a deep copy the loss is the same, to 1e-3."""
    value = trial.own_value
    uses: tuple[tuple[str, Callable[[], float], str], ...] = (
        ("a call in inference_mode", lambda: _in_inference_mode(trial), "inference_mode changes the loss"),
        ("a call after eval()", lambda: _evaluating(trial), "eval() changes the loss"),
        ("a deep copy of it", lambda: _of_copy(trial), "a deep copy of it gives another loss"),
    )
    for use, call, message in uses:
        try:
            other = call()
        except BaseException as error:
            return _raising(use, error)
        verdict = same_value(trial, value, other, message)
        if not verdict.holds:
            break
    return verdict


def _evaluating(trial: LossTrial) -> float:
    with trial.subject.evaluating():
        return trial.value(trial.inputs)


def _of_copy(trial: LossTrial) -> float:
    return trial.of(trial.subject.copied()).value(trial.inputs)


@loss_property(perturbations=DIFFERENT, masks=FOREGROUND, compares=True, effort=0.25)
def upstream_gradient(trial: LossTrial) -> Verdict:
    """A second backward pass gives the same gradient; with the loss times −2 or 0.5 it is that multiple, to 1e-3, and
    with the loss times 0 it is 0."""
    once, again, none, *multiples = trial.backward_passes(trial.inputs, (1.0, 1.0, 0.0, *_UPSTREAM))
    if not once.has_graph:
        # For the property "finite" to convict.
        return VACUOUS
    verdict = same_gradient(trial, once, again, "a second backward pass over the same graph changes")
    for upstream, multiple in zip(_UPSTREAM, multiples, strict=True):
        if not verdict.holds:
            break
        divided = replace(multiple, gradient=multiple.gradient / upstream)
        # What the gradient's dtype cannot hold differs between the two.
        scales = (once.loss_scale, multiple.loss_scale * abs(upstream))
        floor = sum(budget(trial.precision, scale).gradient_floor for scale in scales) * once.gradient.numel() ** 0.5
        what = f"an upstream gradient of {upstream:g}, divided out again, changes"
        verdict = same_gradient(trial, once, divided, what, floor)
    if verdict.holds and bool(once.gradient.isfinite().all()):
        # As of a term whose weight is 0: NaN is another number too.
        left = int((none.gradient != 0.0).sum())
        verdict = holds_if(not left, f"an upstream gradient of 0 leaves {left} numbers of the gradient that are not 0")
    return verdict


@loss_property(
    perturbations=(PerturbationKind.NOISE,), masks=(MaskKind.DISC,), flaws=tuple(Flaw), gravest=Level.STRICTNESS
)
@refusing_unknown_ops()
def bad_input(trial: LossTrial) -> Verdict:
    """Bad input is refused with a ValueError or TypeError that says why; a term of a training step may pass NaN on.

    A batch of no image may also give zero, or nothing.
    """
    return _of_bad_input(trial).at(Level.STRICTNESS)


def _of_bad_input(trial: LossTrial) -> Verdict:
    flaw = trial.case.flaw
    assert flaw is not None, "cases of this property carry a flaw"
    if flaw is Flaw.MASK_SHAPE and trial.subject.kind is LossKind.BARE:
        return VACUOUS
    spoilt = _spoilt(trial, flaw)
    try:
        # A library may warn and go on, which is just what must not happen.
        with warnings.catch_warnings(), trial.precision.context():
            warnings.simplefilter("ignore")
            value = trial.subject(*spoilt.tensors())
    except SubjectError:
        if flaw is not Flaw.NO_IMAGE:
            raise
        # It gave nothing for nothing.
        return VACUOUS
    except (ValueError, TypeError) as error:
        kind = type(error).__name__
        return holds_if(describe_exception(error) != kind, f"{flaw.value}: {kind} without a word")
    except BaseException as error:
        reraise_unless_subjects(error)
        return holds_if(False, f"{flaw.value}: raises {describe_exception(error)}")
    if flaw is Flaw.NAN and not trial.definition.refuses_nan:
        return holds_if(
            bool(value.isnan()), f"{flaw.value}: comes out as a loss of {float(value.detach()):.4g}, not NaN"
        )
    if flaw is Flaw.NO_IMAGE:
        zero = float(value.detach()) == 0.0
        return holds_if(zero, f"{flaw.value}: comes out as a loss of {float(value.detach()):.4g}, not 0")
    return holds_if(False, f"{flaw.value}: accepted, with a loss of {float(value.detach()):.4g}")


def _spoilt(trial: LossTrial, flaw: Flaw) -> LossInputs:
    inputs = trial.inputs
    if flaw is Flaw.SHAPES_DIFFER:
        if isinstance(inputs, MaskedPair):
            return replace(inputs, target=inputs.target[..., :-1])
        return replace(inputs, origin=inputs.origin[..., :-1], direction=inputs.direction[..., :-1])
    if flaw is Flaw.RANK:
        return inputs.mapped(lambda tensor: tensor[0])
    if flaw is Flaw.INTEGER:
        if isinstance(inputs, MaskedPair):
            rendering, target = ((image * 255).to(torch.uint8) for image in (inputs.rendering, inputs.target))
            return MaskedPair(rendering, target, inputs.mask)
        return inputs.with_first((inputs.xyz * 255).to(torch.int32))
    if flaw is Flaw.NAN:
        first = inputs.tensors()[0]
        return inputs.with_first(first.masked_fill(trial.definition.counted(inputs.mask), float("nan")))
    if flaw is Flaw.NO_IMAGE:
        return inputs.mapped(lambda tensor: tensor[:0])
    if flaw is Flaw.SMALL:
        return inputs.mapped(lambda tensor: tensor[..., :10, :])
    return replace(inputs, mask=inputs.mask[..., :-1])
