"""The tiny model, optimizer, schedule and scaler of a world, and the losses that its step is fed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from harness.cases.descriptors import Action, StepCase
from harness.cases.worlds import OptimizerKind, World
from harness.oracle.optimizer_model import BETAS, EPSILON, momentum_of
from harness.oracle.policies import NORM_FACTOR
from harness.oracle.step_model import schedule
from harness.oracle.step_world import LEARNING_RATE, ParameterSpec, parameters_of
from harness.oracle.window import BACKOFF, GROWTH
from harness.precision import Precision
from harness.subjects.step import StepParts


def tiny_parts(case: StepCase, device: str, scaled: bool) -> StepParts:
    """A 2×3 matrix, its bias and what else the world has, with an optimizer, a schedule and a scaler, which is on where
    ``scaled``.
    """
    world = case.world
    specs = parameters_of(world.parameters)
    parameters = {
        spec.name: nn.Parameter(torch.full(spec.shape, spec.start, device=device), not (spec.frozen or spec.late))
        for spec in specs
    }
    present = [spec for spec in specs if not spec.late]
    groups = [
        _group(parameters, list(members)) for _, members in itertools.groupby(present, key=lambda spec: spec.group)
    ]
    optimizer = _optimizer(world.optimizer, groups)
    return StepParts(
        parameters,
        optimizer,
        torch.amp.GradScaler(
            device,
            init_scale=2.0**case.scale_exponent,
            growth_factor=GROWTH,
            backoff_factor=BACKOFF,
            growth_interval=case.growth_interval,
            enabled=scaled,
        ),
        torch.optim.lr_scheduler.LambdaLR(optimizer, schedule) if world.scheduled else None,
        case.accumulation,
        world.clip_norm,
        NORM_FACTOR,
    )


def add_late(parts: StepParts, world: World) -> None:
    """Unfreeze the parameters that join later, and hand them to the optimizer and its schedule."""
    for spec in parameters_of(world.parameters):
        if not spec.late:
            continue
        parts.parameters[spec.name].requires_grad_()
        group = _group(parts.parameters, [spec])
        scheduler: Any = parts.lr_scheduler
        if scheduler is not None:
            group |= {"initial_lr": group["lr"], "lr": group["lr"] * schedule(scheduler.last_epoch)}
            # LambdaLR has no method for a new group, and steps no optimizer that has more groups than it has rates.
            scheduler.base_lrs.append(group["initial_lr"])
            scheduler.lr_lambdas.append(schedule)
        parts.optimizer.add_param_group(group)


def tiny_loss(
    parts: StepParts, action: Action, gradients: Mapping[str, float], precision: Precision
) -> Float[Tensor, ""]:
    """A loss whose gradient by every element of a parameter is the one named, through autocast's casts."""
    device = precision.device
    if action is Action.FROZEN:
        return torch.ones(1, 3, device=device).requires_grad_().sum()
    if action is Action.NAN_LOSS:
        return _loss(parts, dict.fromkeys(gradients, math.nan), precision) * math.nan
    loss = _loss(parts, gradients, precision)
    return loss + math.inf if action is Action.INF_LOSS else loss


def _loss(parts: StepParts, gradients: Mapping[str, float], precision: Precision) -> Tensor:
    parameters, device = parts.parameters, precision.device
    alike = len(gradients) == 2 and len(set(map(str, gradients.values()))) == 1
    with precision.context():
        if alike:
            ones = torch.ones(1, 3, device=device)
            outputs = {"weight": F.linear(ones, parameters["weight"], parameters["bias"])}
        else:
            outputs = {name: _linear(parameters[name], device) for name in gradients}
    losses = [_weighted(output, gradients[name]) for name, output in outputs.items()]
    return torch.stack(losses).sum() if len(losses) > 1 else losses[0]


def _linear(parameter: nn.Parameter, device: str) -> Tensor:
    matrix = parameter if parameter.dim() == 2 else parameter[None]
    return F.linear(torch.ones(1, matrix.shape[1], device=device), matrix)


def _weighted(output: Tensor, gradient: float) -> Tensor:
    if math.isnan(gradient):
        poisoned: Tensor = _NanBackward.apply(output.float().sum())
        return poisoned
    return (output.float() * gradient).sum()


def _group(parameters: Mapping[str, nn.Parameter], members: list[ParameterSpec]) -> dict[str, Any]:
    """A group of the optimizer: its parameters have its rate and decay in common."""
    return {
        "params": [parameters[spec.name] for spec in members],
        "weight_decay": members[0].weight_decay,
        "lr": LEARNING_RATE * members[0].rate,
    }


def _optimizer(kind: OptimizerKind, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    # Said outright: torch chooses by the device where nothing is said.
    how = {"foreach": kind.foreach, "fused": kind.fused}
    if kind.adam:
        return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=BETAS, eps=EPSILON, **how)
    return torch.optim.SGD(groups, lr=LEARNING_RATE, momentum=momentum_of(kind), **how)


class _NanBackward(torch.autograd.Function):
    """The identity, whose gradient is NaN."""

    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, upstream):
        return upstream * math.nan
