"""What an instance of a loss makes of its life in a training: first calls, sums, checkpoints, casts, memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from harness.cases.loss_inputs import LossInputs
from harness.cases.strategies import DIFFERENT
from harness.errors import describe_exception, printable, reraise_unless_subjects
from harness.oracle.budget import budget
from harness.properties.loss_property import FOREGROUND, loss_property
from harness.properties.sameness import same_evaluation, same_gradient, same_value
from harness.properties.verdict import VACUOUS, Verdict, holds_if
from harness.trials.left_alive import left_alive
from harness.trials.loss_trial import LossTrial

T = TypeVar("T")

# Casting rounds weights for good, and nobody can help it. More numbers than this are a network's, not a window's.
_MOST_NUMBERS = 4096
_CALLS = 6
# Of images of at most so many numbers every way is tried, of others one: the search always begins with some of 16×16.
_SMALL = 3 * 20 * 20
_WHY_NO_MODULE = "it isn't a module"


def _doubled(inputs: LossInputs) -> LossInputs:
    return inputs.mapped(lambda tensor: torch.cat([tensor, tensor], dim=-1))


def _in(dtype: torch.dtype) -> Callable[[LossTrial], None]:
    return lambda trial: _call(trial, trial.built.cast(trial.precision.device, dtype), None)


# Each may come first in a training's life; a window that is made then, and kept, is of that call's making.
_FIRST_CALLS: dict[str, Callable[[LossTrial], None]] = {
    "in inference_mode": lambda trial: _call(trial, trial.inputs, None, inference=True),
    "under autocast": lambda trial: _call(
        trial, trial.built.cast(trial.precision.device, torch.float32), torch.bfloat16
    ),
    "in float16": _in(torch.float16),
    "in bfloat16": _in(torch.bfloat16),
    "in float64": _in(torch.float64),
    "of images twice as wide": lambda trial: _call(trial, _doubled(trial.inputs), None),
}


def _call(trial: LossTrial, inputs: LossInputs, autocast: torch.dtype | None, inference: bool = False) -> None:
    """A call whose value is nobody's concern. That a loss refuses it is no violation of what is claimed here."""
    device = "cuda" if trial.precision.cuda_policy else trial.precision.device
    mode = torch.inference_mode() if inference else torch.no_grad()
    with mode, torch.autocast(device, dtype=autocast, enabled=autocast is not None), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            trial.forward(inputs)
        except BaseException as error:
            reraise_unless_subjects(error)


@loss_property(perturbations=DIFFERENT, masks=FOREGROUND, compares=True, effort=0.1)
def first_call(trial: LossTrial) -> Verdict:
    """Whatever a new instance was first called in (half, float64, autocast, inference_mode, another size), the loss is
    the same afterwards, to 1e-3."""
    if trial.subject.fresh() is trial.subject:
        return VACUOUS
    verdict = VACUOUS
    for name in _ways(trial, tuple(_FIRST_CALLS)):
        if verdict.holds:
            verdict = _after_first_call(trial, name)
    return verdict


def _ways(trial: LossTrial, all_of_them: Sequence[T]) -> Sequence[T]:
    """Those that are tried on this case."""
    if trial.case.elements <= _SMALL:
        return all_of_them
    return (all_of_them[trial.case.seed % len(all_of_them)],)


def _after_first_call(trial: LossTrial, name: str) -> Verdict:
    other = trial.of(trial.subject.fresh())
    _FIRST_CALLS[name](other)
    at_once = trial.of(trial.subject.fresh()).evaluate(trial.inputs)
    try:
        afterwards = other.evaluate(trial.inputs)
    except BaseException as error:
        reraise_unless_subjects(error)
        return holds_if(False, f"after a first call {name} it raises {describe_exception(error)}")
    if afterwards.has_graph != at_once.has_graph:
        return holds_if(False, f"after a first call {name} the loss has no graph")
    return same_evaluation(trial, at_once, afterwards, f"a first call {name} changes")


@loss_property(perturbations=DIFFERENT, masks=FOREGROUND, compares=True, effort=0.25)
def calls_add_up(trial: LossTrial) -> Verdict:
    """The gradient of a sum of two calls' losses is what each call alone gives, to 1e-3."""
    several = (trial.inputs, trial.inputs.mapped(lambda tensor: tensor.flip(-1)))
    alone = [trial.evaluate(inputs) for inputs in several]
    together = trial.of_a_sum(several)
    if not all(evaluation.has_graph for evaluation in (*alone, *together)):
        # For the property "finite" to convict.
        return VACUOUS
    verdict = VACUOUS
    for which, one, other in zip(("first", "second"), alone, together, strict=True):
        if verdict.holds:
            verdict = same_value(trial, one.value, other.value, f"in a sum of two calls the {which} loss is another")
        if verdict.holds:
            # What the gradient's dtype can't hold differs between the two.
            scales = (one.loss_scale, other.loss_scale)
            floor = sum(budget(trial.precision, s).gradient_floor for s in scales) * one.gradient.numel() ** 0.5
            verdict = same_gradient(trial, one, other, f"in a sum of two calls the {which}'s changes", floor)
    return verdict


@loss_property(modules_only=_WHY_NO_MODULE, compares=True, effort=0.25)
def state_dict(trial: LossTrial) -> Verdict:
    """A state dict from before or after a call loads, strictly, into a new module or a called one, and the loss is the
    same, to 1e-3."""
    called, uncalled = trial.of(trial.subject.fresh()), trial.subject.fresh()
    value = called.value(trial.inputs)
    before, after = _saved(uncalled.module), _saved(called.subject.module)
    loads = (
        ("saved after a call, loaded into a new module", trial.of(trial.subject.constructed()), after),
        ("saved before any call, loaded into a called module", called, before),
    )
    for how, other, state in loads:
        module = other.subject.module
        assert module is not None
        try:
            module.load_state_dict(state)
        except BaseException as error:
            reraise_unless_subjects(error)
            said = printable(" ".join(str(error).split()), 300)
            return holds_if(False, f"a state dict {how}: raises {type(error).__name__}: {said}")
        verdict = same_value(trial, value, other.value(trial.inputs), f"a state dict {how}, changes the loss")
        if not verdict.holds:
            return verdict
    return verdict


def _saved(module: nn.Module | None) -> dict[str, Tensor]:
    """As a file would hold it: apart from the module."""
    assert module is not None
    return {
        name: entry.detach().clone() if isinstance(entry, Tensor) else entry
        for name, entry in module.state_dict().items()
    }


@loss_property(modules_only=_WHY_NO_MODULE, perturbations=DIFFERENT, masks=FOREGROUND, compares=True, effort=0.1)
def casts(trial: LossTrial) -> Verdict:
    """Cast to another dtype and back to float32, before or after a call, a module gives the same loss, to 1e-3 (with a
    network's weights: to float64)."""
    dtypes, verdict = (torch.float64, torch.float16, torch.bfloat16), VACUOUS
    for dtype, called in _ways(trial, [(dtype, called) for called in (False, True) for dtype in dtypes]):
        if verdict.holds:
            verdict = _after_cast(trial, dtype, called)
    return verdict


def _after_cast(trial: LossTrial, dtype: torch.dtype, called: bool) -> Verdict:
    fresh = trial.subject.fresh()
    assert fresh.module is not None
    kept = (*fresh.module.parameters(), *fresh.module.buffers())
    if trial.definition.needs_convolutions or sum(tensor.numel() for tensor in kept) > _MOST_NUMBERS:
        dtype = torch.float64
    value = trial.of(trial.subject.fresh()).value(trial.inputs)
    other = trial.of(fresh)
    when = "before any call"
    if called:
        when = "after a call"
        other.value(trial.inputs)
    fresh.module.to(dtype)
    _in(dtype)(other)
    fresh.module.to(torch.float32)
    name = str(dtype).removeprefix("torch.")
    changed = other.value(trial.inputs)
    return same_value(trial, value, changed, f"a cast to {name} and back {when} changes the loss")


@loss_property(masks=FOREGROUND, effort=0.01)
def keeps_nothing(trial: LossTrial) -> Verdict:
    """Calls leave nothing alive but the last one's: no inputs, no graph, no list of tensors that grows."""
    counts = left_alive(trial, _CALLS)
    # The first may make what is kept for good, and the last two may be what is kept until the next.
    grows = [count for count in counts[1:-2] if count]
    return holds_if(
        len(grows) < 2, f"after {_CALLS} calls, {sum(counts)} tensors that they made are still alive: {counts} of each"
    )
