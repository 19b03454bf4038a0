"""What a training stands at when a window begins: enough to tell whether another process stands at the same."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from harness.rehearsal.parameters import Averages, Parameters


def digests(tensors: Iterable[Tensor]) -> list[str]:
    """One for each tensor: equal for equal bits and shapes."""
    return [_digest(tensor) for tensor in tensors]


def of_optimizer(parameters: Parameters, index: int) -> dict[str, Any]:
    """An optimizer's parameters, its state and its learning rates."""
    optimizer = parameters.optimizers[index]
    state: list[str] = []
    for parameter in parameters.of(index):
        own = optimizer.state.get(parameter, {})
        state.append(" ".join(f"{name}={_value(own[name])}" for name in sorted(own) if own[name] is not None))
    return {
        "parameters": digests(parameters.of(index)),
        "state": state,
        "rates": [float(group["lr"]) for group in optimizer.param_groups],
    }


def of_scaler(scaler: Any) -> dict[str, float]:
    """Its scale, and how many good steps there were since it changed."""
    state = scaler.state_dict()
    return {"scale": float(state["scale"]), "good steps": int(state["_growth_tracker"])}


def of_averages(averages: Averages) -> list[str]:
    """Each of those that were found."""
    return [" ".join(digests(tensors)) for tensors in averages.each()]


def _digest(tensor: Tensor) -> str:
    plain = tensor.detach()
    plain = plain.coalesce().values() if plain.is_sparse else plain
    raw = plain.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return f"{zlib.crc32(raw.tobytes()):08x}{list(tensor.shape)}"


def _value(held: Any) -> str:
    """Of a state: how a number is kept, as a tensor or not, says nothing."""
    if isinstance(held, Tensor):
        return str(float(held)) if held.numel() == 1 else _digest(held)
    return str(float(held)) if isinstance(held, (int, float)) else type(held).__name__
