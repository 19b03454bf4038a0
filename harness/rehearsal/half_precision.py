"""The half precision of a script's autocast: which it asks for, and another in its place."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from harness.errors import unknown_name
from harness.pretence.patches import Patches

HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
_NAMES = {dtype: name for name, dtype in HALVES.items()}


def half_named(name: str) -> str:
    """The name, if there is such a half precision; empty for none.

    Raises:
        UsageError: there is no such half precision.
    """
    if name and name not in HALVES:
        raise unknown_name("half precision", name, list(HALVES))
    return name


class HalfPrecision:
    """Watches every ``torch.autocast`` that is made, and can make it another.

    Args:
        wanted: ``float16`` or ``bfloat16``, in place of either; gradient scalers are then on or off, as is
            the custom with it. Empty for as the script has it.

    Attributes:
        asked: the half precisions that the script asked for since this was emptied last.
        given: those that its autocasts have had so far.
    """

    def __init__(self, wanted: str = "") -> None:
        self._wanted = wanted
        self.asked: set[str] = set()
        self.given: set[torch.dtype] = set()

    def install(self, patches: Patches) -> None:
        """Patch what makes them."""
        patches.wrap(torch.autocast, "__init__", self._opening)
        if self._wanted:
            patches.wrap(torch.amp.GradScaler, "__init__", self._scaling)

    def _opening(self, stock: Callable[..., None]) -> Callable[..., None]:
        # Without inspect, which costs more than what it is for: a model may open one for each of its layers.
        def __init__(
            autocast: Any, device_type: str, dtype: Any = None, enabled: bool = True, *more: Any, **named: Any
        ) -> None:
            if enabled:
                name = _NAMES.get(dtype or torch.get_autocast_dtype(device_type))
                if name is not None:
                    self.asked.add(name)
                    dtype = HALVES[self._wanted] if self._wanted else dtype
                    self.given.add(HALVES[self._wanted or name])
            stock(autocast, device_type, dtype, enabled, *more, **named)

        return __init__

    def _scaling(self, stock: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(stock)

        def __init__(scaler: Any, *args: Any, **kwargs: Any) -> None:
            given = signature.bind(scaler, *args, **kwargs).arguments
            given["enabled"] = self._wanted == "float16"
            stock(**given)

        return __init__
