"""What a training stands at when a window begins: enough to tell whether another process stands at the same.

What is on a device comes later, into the lists and dictionaries that are given out at once.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness.rehearsal.averages import Averages, Follower
from harness.rehearsal.parameters import Parameters
from harness.rehearsal.readings import Readings


class Snapshots:
    """Takes them.

    Args:
        readings: bring what is on a device.
    """

    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    def digests(self, tensors: Iterable[Tensor]) -> list[str]:
        """One for each tensor: equal for equal bits and shapes."""
        found: list[str] = []
        for tensor in tensors:
            found.append("")
            self._digest(tensor, partial(found.__setitem__, len(found) - 1))
        return found

    def of_optimizer(self, parameters: Parameters, index: int) -> dict[str, Any]:
        """An optimizer's parameters, its state and its learning rates."""
        optimizer = parameters.optimizers[index]
        own = [optimizer.state.get(parameter, {}) for parameter in parameters.of(index)]
        return {
            "parameters": self.digests(parameters.of(index)),
            "state": [self._of_state(state) for state in own],
            "rates": parameters.rates()[index],
        }

    def of_scaler(self, scaler: Any) -> dict[str, float]:
        """Its scale, and how many good steps there were since it changed."""
        found = {"scale": float(scaler._init_scale), "good steps": int(scaler._init_growth_tracker)}
        # Not its state_dict(), which waits for the device.
        if scaler._scale is not None:
            self._readings.take(scaler._scale, partial(found.__setitem__, "scale"))
            self._readings.take(scaler._growth_tracker, lambda steps: found.__setitem__("good steps", int(steps)))
        return found

    def of_averages(self, averages: Averages) -> list[tuple[Follower, list[str]]]:
        """Each that may be one, and the digests of its tensors."""
        return [(follower, self.digests(follower.tensors)) for follower in averages.each()]

    def _of_state(self, state: Mapping[str, Any]) -> dict[str, str]:
        """How a number is kept, as a tensor or not, says nothing."""
        found: dict[str, str] = {}
        for name in sorted(name for name, held in state.items() if held is not None):
            held = state[name]
            # Whatever comes when, the names are in order.
            found[name] = type(held).__name__
            if isinstance(held, Tensor) and held.numel() == 1:
                self._readings.take(held, partial(_put_number, found, name))
            elif isinstance(held, Tensor):
                self._digest(held, partial(found.__setitem__, name))
            elif isinstance(held, (int, float)):
                _put_number(found, name, held)
        return found

    def _digest(self, tensor: Tensor, into: Any) -> None:
        plain = tensor.detach()
        plain = plain.coalesce().values() if plain.is_sparse else plain
        shape = list(tensor.shape)
        self._readings.take_whole(plain, lambda here: into(f"{_crc(here):08x}{shape}"))


def _crc(tensor: Tensor) -> int:
    return zlib.crc32(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())


def _put_number(found: dict[str, str], name: str, number: float) -> None:
    found[name] = str(float(number))
