"""What the oracle says of steps, as plain values, to be recorded."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from typing import Any

import torch

from harness.cases.descriptors import (
    Action,
    StepCase,
)
from harness.cases.worlds import OptimizerKind, ParameterKind, World
from harness.errors import UsageError
from harness.oracle import optimizer_model, step_world, window
from harness.oracle.policies import CLIP_NORM, NORM_FACTOR, PROMISED, Policies, with_promises
from harness.oracle.step_model import StepModel, rounded_to

_ACTIONS = tuple(Action)


def steps() -> Any:
    """Worlds, rules and what the model says of a program of all actions, in each world of parameters."""
    wanting = [
        Policies(), Policies(clip_norm=None, norm_limit=None), Policies(clip_value=0.25, norm_limit=1e3),
        Policies(clip_norm=0.5),
    ]  # fmt: skip
    elements = {"a": 2, "b": 3}
    outcomes = [
        window.window_outcome(finite, norm, window.ScalerState(8.0, tracker), interval, policies)
        for finite, norm, tracker, interval, policies in product(
            (True, False), (None, 0.5, 20.0, 21.0, math.inf, math.nan), (0, 1), (2, None),
            (PROMISED, Policies(norm_limit=None, drops_nonfinite_loss=False)),
        )
    ]  # fmt: skip
    return {
        "constants": [CLIP_NORM, NORM_FACTOR, step_world.GRADIENT, step_world.NEAR, window.GROWTH, window.BACKOFF],
        "optimizers": {kind: _optimized(kind) for kind in OptimizerKind},
        "promises": [
            with_promises(PROMISED, given.split())
            for given in ("clip-norm=2 norm-limit=none", "clip-value=.5 drops-nonfinite-loss=no", "counts-attempts=yes")
        ],
        "optimizer": [optimizer_model.MOMENTUM, optimizer_model.BETAS, optimizer_model.EPSILON],
        "refused": [_refused(given) for given in ("clip-norm=-1", "clip-norm=0", "norm-limit=nan", "clip-value=inf",
                                                   "clip-norm=x", "counts-attempts=1", "clip=1")],
        "on zeros": {kind: _on_zeros(kind) for kind in OptimizerKind},
        "near": [
            step_world.gradients_of(action, kind, step_world.parameters_of(kind), policies)
            for kind in (ParameterKind.ALIKE, ParameterKind.UNEQUAL)
            for action in step_world.NEAR for policies in wanting
        ],
        "parameters": {kind: step_world.parameters_of(kind) for kind in ParameterKind},
        "gradients": {
            f"{kind.value}, {action.value}": step_world.gradients_of(
                action, kind, step_world.parameters_of(kind), PROMISED
            )
            for kind in ParameterKind for action in _ACTIONS
        },
        "norms": [step_world.norm_of(given, elements) for given in ({}, {"a": 1.0}, {"a": 1.0, "b": -2.0})],
        "clipped": [
            policies.clipped(given, elements) for policies in wanting for given in ({"a": 0.5}, {"a": 3.0, "b": -0.5})
        ],
        "handed": [
            policies.handed(norm, promised)
            for policies in wanting for norm in (None, 0.0, CLIP_NORM, 4.0) for promised in (True, False)
        ],
        "outcomes": outcomes,
        "rounded": [
            [rounded_to(number, dtype) for dtype in (torch.float16, torch.bfloat16, torch.float32)]
            for number in (0.0, 1 / 3, -1 / 3, 65520.0, 65519.0, 2.0**-25, 1.1 * 2.0**-25, 1e-6, 1e39, math.inf)
        ],
        "programs": {
            f"{kind.value}, {accumulation}, {scaled}": _program(kind, accumulation, scaled)
            for kind in ParameterKind for accumulation, scaled in ((1, True), (2, False), (3, True))
        },
        "other worlds": [
            _program(ParameterKind.ALIKE, 1, True, world)
            for world in (World(clip_norm=None), World(clip_norm=0.0), World(clip_norm=4.0), World(scheduled=False),
                          World(optimizer=OptimizerKind.ADAMW))
        ],
    }  # fmt: skip


def _refused(promise: str) -> str:
    """The words of its refusal."""
    try:
        return str(with_promises(PROMISED, [promise]))
    except UsageError as error:
        return str(error)


def _on_zeros(kind: OptimizerKind) -> Any:
    """Where a window without gradients leads that is taken for one of zeros."""
    model = StepModel(StepCase(world=World(optimizer=kind)), False)
    for action in (Action.GOOD, Action.FROZEN):
        model.after(action)
    model.step_on_zeros()
    return dict(model.values)


def _optimized(kind: OptimizerKind) -> list[float]:
    optimizer, values = optimizer_model.ScalarOptimizer(kind, 0.125), [1.0]
    for gradient in (0.5, -2.0, 0.0, 0.25):
        values.append(optimizer.step(values[-1], gradient, 0.0625))
    return values


def _program(kind: ParameterKind, accumulation: int, scaled: bool, world: World | None = None) -> Iterable[Any]:
    case = StepCase(accumulation=accumulation, scale_exponent=12, growth_interval=2)
    model = StepModel(replace(case, world=replace(world or World(), parameters=kind)), scaled)
    good = [Action.GOOD] * accumulation
    # Each is followed by a window that is good.
    actions = [action for one in _ACTIONS if one is not Action.RESTORE for action in (one, *good[1:], *good)]
    found = [model.after(action) for action in actions]
    # Whatever was dropped, why, and where it all ended; each step's numbers in one line.
    return [
        [seen.stepped, seen.moved, seen.grad_norm, seen.updates, seen.learning_rate, len(seen.scaler),
         seen.scaler[0].scale, seen.scaler[0].growth_tracker, seen.fault, *seen.parameters.values()]
        for seen in found if seen.window_ended
    ]  # fmt: skip
