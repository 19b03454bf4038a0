"""Functions that torch calls back: with the mode on, or without it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import _get_current_function_mode_stack

from harness.pretence.devices import DeviceMode


def in_mode(mode: DeviceMode, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, run in the mode also where torch calls it from an op that the mode is seeing to."""

    @functools.wraps(function)
    def inside(*args: Any, **kwargs: Any) -> Any:
        if is_on():
            return function(*args, **kwargs)
        with mode:
            return function(*args, **kwargs)

    return inside


def is_on() -> bool:
    """Whether this thread is in a mode of ours."""
    return any(isinstance(mode, DeviceMode) for mode in _get_current_function_mode_stack())


def without_mode(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, run where tensors say that they are CPU tensors."""

    @functools.wraps(function)
    def plain(*args: Any, **kwargs: Any) -> Any:
        with torch._C.DisableTorchFunction():
            return function(*args, **kwargs)

    return plain
