"""How the loss behaves as a function: effects, repetition, bad input."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import torch

from harness.cases.descriptors import Flaw, MaskKind, PerturbationKind
from harness.cases.loss_inputs import LossInputs, MaskedPair
from harness.errors import describe_exception, reraise_unless_subjects
from harness.oracle.levels import Level
from harness.precision import refusing_unknown_ops
from harness.process_state import kept_state, read_state
from harness.properties.loss_property import loss_property
from harness.properties.verdict import VACUOUS, Verdict, holds_if
from harness.protocols import LossKind
from harness.trials.loss_trial import LossTrial, differs


@loss_property()
@refusing_unknown_ops()
def side_effects(trial: LossTrial) -> Verdict:
    """The call leaves its inputs, the random state, torch's modes and the working directory as they were."""
    tensors = trial.inputs.named()
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    random_state = torch.random.get_rng_state()
    trial.evaluate(trial.inputs)
    changed = [name for name, tensor in tensors.items() if not torch.equal(tensor, before[name])]
    if changed:
        return holds_if(False, f"the call changed its {', '.join(changed)}")
    if not torch.equal(torch.random.get_rng_state(), random_state):
        return holds_if(False, "the call drew from torch's global random numbers")
    with trial.precision.context(), kept_state():
        inside = read_state()
        trial.subject(*trial.inputs.tensors())
        changes = inside.changes(read_state())
    return holds_if(not changes, f"the call changed {', '.join(changes)}")


@loss_property()
def repeatable(trial: LossTrial) -> Verdict:
    """The same call gives the same bits."""
    first, second = trial.evaluate(trial.inputs), trial.evaluate(trial.inputs)
    noise = trial.definition.noise
    if first.value != second.value and not (math.isnan(first.value) and math.isnan(second.value)):
        verdict = holds_if(False, f"the same call gave {first.value!r}, then {second.value!r}")
        return verdict.at(noise.of_value(abs(first.value - second.value)))
    changed = int(differs(first.gradient, second.gradient).sum())
    apart = float((first.gradient - second.gradient).norm())
    return holds_if(
        changed == 0,
        f"the same call gave the loss {first.value!r} twice, but {changed} of {first.gradient.numel()} elements of its "
        f"gradient changed",
    ).at(noise.of_gradient(apart, first.gradient.numel()))


@loss_property(perturbations=(PerturbationKind.NOISE,), masks=(MaskKind.DISC,), flaws=tuple(Flaw))
@refusing_unknown_ops()
def bad_input(trial: LossTrial) -> Verdict:
    """Bad input is refused with a ValueError or TypeError that says why; a term of a training step may pass NaN on."""
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
    if flaw is Flaw.SMALL:
        return inputs.mapped(lambda tensor: tensor[..., :10, :])
    return replace(inputs, mask=inputs.mask[..., :-1])
