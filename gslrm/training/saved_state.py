"""Whether a checkpoint's training state fits a step, looked at before anything of the step is changed.

Optimizers, scalers and schedules take nearly anything for a state, and stumble over it steps later, when weights have
been replaced already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gslrm.files import one_line
from gslrm.model.checkpoint import Checkpoint, CheckpointError
from gslrm.training.amp_step import AmpStep


def check_training_state(saved: Checkpoint, step: AmpStep, source: str | Path) -> None:
    """Raise CheckpointError, naming the entry, for a state that is not of such a step."""
    parameters = [p for group in step.optimizer.param_groups for p in group["params"]]
    try:
        _check_optimizer(saved.optimizer, step.optimizer.state_dict(), parameters)
        if step.lr_scheduler is not None:
            _check_schedule(saved.lr_scheduler, step.lr_scheduler)
        if step.scaler.is_enabled():
            _check_scaler(saved.extra["scaler"], step.scaler.state_dict())
        _check_window(saved.extra["window"], step.grad_accum_steps, parameters)
    except _Unfit as error:
        raise CheckpointError(f"{source}: {error}") from None


class _Unfit(Exception):
    """The message names the entry."""


def _check_optimizer(saved: Any, own: Mapping[str, Any], parameters: Sequence[Tensor]) -> None:
    groups, states = _get(saved, "param_groups", "optimizer"), _get(saved, "state", "optimizer")
    if not isinstance(groups, list) or len(groups) != len(own["param_groups"]):
        raise _Unfit(f"optimizer.param_groups must be a list of {len(own['param_groups'])} groups")
    for i, (group, mine) in enumerate(zip(groups, own["param_groups"], strict=True)):
        where = f"optimizer.param_groups[{i}]"
        for key, value in mine.items():
            _check_like(_get(group, key, where), value, f"{where}.{key}")
        if group["params"] != mine["params"]:
            raise _Unfit(f"{where} is not of the {len(mine['params'])} parameters of this optimizer's group")
    if not isinstance(states, Mapping):
        raise _Unfit("optimizer.state must be a mapping by parameter")
    for index, state in states.items():
        if not isinstance(index, int) or not 0 <= index < len(parameters) or not isinstance(state, Mapping):
            raise _Unfit(f"optimizer.state has an entry {_shown(index)}, which is no parameter's")
        for key, value in state.items():
            where = f"optimizer.state[{index}].{one_line(str(key), 40)}"
            if isinstance(value, Tensor) and value.dim():
                _check_tensor(value, parameters[index].shape, where)
            elif isinstance(value, Tensor):
                _check_tensor(value, torch.Size(), where)
            else:
                _check_number(value, where)
    keys = {frozenset(state) for state in states.values()}
    needed = {"step", "exp_avg", "exp_avg_sq"} if _is_adam(own) else set()
    if any(not needed <= found for found in keys):
        raise _Unfit(f"optimizer.state lacks one of {', '.join(sorted(needed))}")


def _is_adam(own: Mapping[str, Any]) -> bool:
    """Whether an optimizer's state dict is one of Adam's kind."""
    return "betas" in own["param_groups"][0]


def _check_schedule(saved: Any, schedule: torch.optim.lr_scheduler.LRScheduler) -> None:
    """Its own keys must be alike; others, of another version of torch, may be there if they are plain values."""
    own = schedule.state_dict()
    if not isinstance(saved, Mapping):
        raise _Unfit("lr_scheduler must be a mapping")
    for key, value in saved.items():
        if key in own:
            _check_like(value, own[key], f"lr_scheduler.{key}")
        elif not isinstance(key, str) or hasattr(schedule, key) or not isinstance(value, (bool, int, float, str)):
            # It would be set as an attribute.
            raise _Unfit(f"lr_scheduler has an entry {_shown(key)}, which no schedule saves")
    for key in ("last_epoch", "lr_lambdas"):
        if key in own and key not in saved:
            raise _Unfit(f"lr_scheduler lacks {key}")


def _check_scaler(saved: Any, own: Mapping[str, Any]) -> None:
    for key, value in own.items():
        found = _get(saved, key, "scaler")
        _check_like(found, value, f"scaler.{key}")
        if not key.startswith("_") and found <= 0:
            raise _Unfit(f"scaler.{key} is {found:g}, expected a number above 0")


def _check_window(saved: Any, passes: int, parameters: Sequence[Tensor]) -> None:
    count, bad, gradients = (_get(saved, key, "window") for key in ("passes", "loss_is_bad", "gradients"))
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= passes:
        raise _Unfit(f"window.passes is {_shown(count)}, expected 0 to {passes}")
    if not isinstance(bad, bool):
        raise _Unfit(f"window.loss_is_bad is {_shown(bad)}, expected true or false")
    if not isinstance(gradients, list) or len(gradients) != len(parameters):
        raise _Unfit(f"window.gradients must be a list of {len(parameters)}, one for each parameter")
    for i, (gradient, parameter) in enumerate(zip(gradients, parameters, strict=True)):
        if gradient is not None:
            # A gradient may be NaN: the window's end finds out.
            _check_tensor(gradient, parameter.shape, f"window.gradients[{i}]", finite=False)


def _check_like(value: Any, own: Any, where: str) -> None:
    """Of the same kind as the entry that a fresh state has."""
    if own is None or isinstance(own, bool):
        # Switches of torch's optimizers are true, false or not decided.
        if value is not None and not isinstance(value, bool):
            raise _Unfit(f"{where} is {_shown(value)}, expected true, false or none")
    elif isinstance(own, (int, float, Tensor)):
        _check_number(value, where)
    elif isinstance(own, (list, tuple)):
        if not isinstance(value, (list, tuple)) or len(value) != len(own):
            raise _Unfit(f"{where} must be a list of {len(own)}")
        for i, (inner, mine) in enumerate(zip(value, own, strict=True)):
            _check_like(inner, mine, f"{where}[{i}]")
    elif type(value) is not type(own):
        raise _Unfit(f"{where} is a {type(value).__name__}, expected a {type(own).__name__}")


def _check_number(value: Any, where: str) -> None:
    if isinstance(value, Tensor) and value.numel() == 1 and value.layout == torch.strided and not value.is_complex():
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 2**63:
        raise _Unfit(f"{where} is {_shown(value)}, expected a finite number")


def _check_tensor(value: Any, shape: torch.Size, where: str, finite: bool = True) -> None:
    if not isinstance(value, Tensor) or value.layout != torch.strided or not value.dtype.is_floating_point:
        raise _Unfit(f"{where} is no tensor of floating point")
    if value.shape != shape:
        raise _Unfit(f"{where} has shape {tuple(value.shape)}, expected {tuple(shape)}")
    if finite and not torch.isfinite(value).all():
        raise _Unfit(f"{where} holds a NaN or an infinity")


def _get(mapping: Any, key: str, where: str) -> Any:
    if not isinstance(mapping, Mapping) or key not in mapping:
        raise _Unfit(f"{where} lacks {key}")
    return mapping[key]


def _shown(value: Any) -> str:
    return f"a tensor of {value.numel()}" if isinstance(value, Tensor) else one_line(repr(value), 40)
