"""A moving average of the parameters (EMA) that a step may be handed, and that is watched."""

from __future__ import annotations

from typing import Any


class Average:
    """Counts how often it takes the parameters in.

    It answers to the names that such averages have: ``update`` (timm), ``update_parameters`` (torch), ``step``
    (diffusers) or a call, each with whatever arguments. What it would hold follows from when it was called: it keeps
    no numbers.
    """

    def __init__(self) -> None:
        self.updates = 0

    def update(self, *arguments: Any, **named: Any) -> None:
        self.updates += 1

    update_parameters = step = __call__ = update
