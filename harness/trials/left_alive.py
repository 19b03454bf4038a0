"""What the calls of a loss leave alive: counted by the storages that they made, not by the process' memory."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from harness.trials.loss_trial import LossTrial


def left_alive(trial: LossTrial, calls: int) -> list[int]:
    """How many storages of each call, its inputs' among them, are alive after the last: forward, backward, and all let
    go that the caller had.
    """
    made = [_called(trial) for _ in range(calls)]
    if any(_alive(storages) for storages in made):
        # They may only wait for the collector, as what is in a circle does.
        gc.collect()
    return [_alive(storages) for storages in made]


def _alive(storages: list[StorageWeakRef]) -> int:
    return len({storage.cdata for storage in storages if not storage.expired()})


def _called(trial: LossTrial) -> list[StorageWeakRef]:
    with _Storages() as storages:
        # Copies, so that nobody else keeps them.
        trial.evaluate(trial.inputs.mapped(torch.Tensor.clone))
    return storages.made


class _Storages(TorchDispatchMode):
    """Remembers every storage that an op makes, without keeping it."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Else torch imports its compiler for it, which takes a second: under a mode it compiles nothing in any case.
        return False

    def __init__(self) -> None:
        super().__init__()
        self.made: list[StorageWeakRef] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {_address(tensor) for tensor in _tensors_in((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for tensor in _tensors_in(out):
            # A view of an input, or the input itself, is no new storage.
            if tensor.layout is torch.strided and _address(tensor) not in before:
                self.made.append(StorageWeakRef(tensor.untyped_storage()))
        return out


def _tensors_in(held: Any) -> Iterator[Tensor]:
    """Of what an op takes or gives: tensors, and lists and dictionaries of them."""
    if isinstance(held, Tensor):
        yield held
    elif isinstance(held, (tuple, list)):
        for part in held:
            yield from _tensors_in(part)
    elif isinstance(held, dict):
        yield from _tensors_in(tuple(held.values()))


def _address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata) if tensor.layout is torch.strided else 0
