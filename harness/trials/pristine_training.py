"""What a right step makes of a training's parameters, told by an optimizer that the training's code never touches.

It is copied from a second training, built alike and never run: so it has the class and the hyperparameters that the
training began with. Its state (momenta, step counts) comes from the steps taken here alone, and its rates from the
second training's schedule. A training that changes its learning rates, betas, weight decay or step counts on the way,
or loses its optimizer's state, is so told from one that doesn't.

The step is the optimizer class' own, on the whole as torch's classes take it. Where the class is the user's, that it is
right isn't claimed; where its step can't be taken by itself (LBFGS wants a closure), nothing is said of the parameters.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.errors import describe_exception
from harness.numerals import largest
from harness.protocols import TrainingLike
from harness.subjects.training import TrainingFactory, plain_settings

# Of the largest parameter, at least 1: both step in float32, on gradients that were clipped by another's rounding.
_RELATIVE_ERROR = 1e-6
# A change of so many units in the last place, a right step makes too, whatever its rounding.
_ROUNDINGS = 4.0


@dataclass(frozen=True)
class Prediction:
    """The parameters after a right step, in float64 (none where they can't be told), and the error these may have.

    Attributes:
        moved: the step changes a parameter by more than its rounding.
    """

    parameters: Mapping[str, Tensor]
    error: float
    moved: bool


class PristineTraining:
    """The second training's optimizer and schedule; it need not have parameters of its own."""

    def __init__(self, twin: TrainingLike) -> None:
        self._scheduled, self._schedule = twin.optimizer, twin.lr_scheduler
        self._optimizer = copy.deepcopy(twin.optimizer)
        copies = {
            id(p): own
            for theirs, ours in zip(twin.optimizer.param_groups, self._optimizer.param_groups, strict=True)
            for p, own in zip(theirs["params"], ours["params"], strict=True)
        }
        self._parameters = {name: copies[id(p)] for name, p in twin.model.named_parameters() if id(p) in copies}

    @property
    def learning_rate(self) -> float:
        """Of the next update, in the first group."""
        return float(self._scheduled.param_groups[0]["lr"])

    def step(self, before: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> Prediction:
        """Step from the parameters ``before`` by these gradients, clipped already; then let the schedule advance."""
        for theirs, ours in zip(self._scheduled.param_groups, self._optimizer.param_groups, strict=True):
            ours.update({key: value for key, value in theirs.items() if key != "params"})
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(before[name])
                parameter.grad = gradients[name].to(parameter.dtype) if name in gradients else None
        failure = self._own_step()
        with warnings.catch_warnings():
            # The optimizer that is scheduled never steps, which torch remarks on.
            warnings.simplefilter("ignore")
            self._schedule.step()
        if failure:
            return Prediction({}, 0.0, False)
        after = {name: self._parameters.get(name, p).detach().clone() for name, p in before.items()}
        return _prediction(after, any(_moved(before[name], p) for name, p in after.items()))

    def why_unpredictable(self) -> str:
        """Why the optimizer's step can't be taken by itself, or empty; this one is of no use afterwards."""
        for parameter in self._parameters.values():
            parameter.grad = torch.zeros_like(parameter)
        return self._own_step()

    def _own_step(self) -> str:
        kind: Any = type(self._optimizer)
        try:
            # A schedule replaces step() on the optimizer that it is given; the class' own is meant here.
            kind.step(self._optimizer)
        except Exception as error:
            return f"the step of {kind.__name__} can't be taken by itself: {describe_exception(error)}"
        return ""


def why_unpredictable(factory: TrainingFactory) -> str:
    """Why nothing is known of the updates of this training's optimizer, or empty."""
    return PristineTraining(factory.build(plain_settings())).why_unpredictable()


def unmoved(parameters: Mapping[str, Tensor]) -> Prediction:
    """No step is taken."""
    return _prediction(parameters, moved=False)


def _prediction(parameters: Mapping[str, Tensor], moved: bool) -> Prediction:
    size = largest(1.0, *(float(p.abs().max()) for p in parameters.values() if p.numel()))
    return Prediction({name: p.double() for name, p in parameters.items()}, _RELATIVE_ERROR * size, moved)


def _moved(before: Tensor, after: Tensor) -> bool:
    info = torch.finfo(before.dtype)
    return bool(((after - before).abs() > _ROUNDINGS * info.eps * before.abs() + info.tiny).any())
