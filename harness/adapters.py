"""The public kit: put a training step of your own before the harness, in a few lines.

::

    from harness.adapters import Step


    class MyStep(Step):
        def step(self, loss, optimizer, scaler, scheduler, last):
            scaler.scale(loss).backward()
            if last:
                scaler.step(optimizer)
                scaler.update()
                scheduler.step()
                optimizer.zero_grad()

``harness check --step my_step.py:MyStep`` then checks it. A plain function of these arguments is a step, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

OFFERED: Mapping[str, str] = {
    "loss": "the micro-step's loss, divided by the window's length",
    "last": "whether the micro-step ends its window",
    "optimizer": "one `SGD` or `AdamW` of all parameters, in two groups or three",
    "optimizers": "in its place, a list: one for each group",
    "scaler": "the `GradScaler`, switched off where the precision needs none",
    "scheduler": "the learning rate's schedule of `optimizer`; in some programs `None`, where that is the default",
    "schedulers": "a list: that of each of `optimizers`; or `None` as above",
    "parameters": "a list of all parameters",
    "model": "a module that holds them",
    "ema": "torch's `AveragedModel` of `model`: `ema.update_parameters(model)`, or `update` or `step`",
    "clip_norm": "a norm to clip to: 1; 0 and `None`, to see what is made of them; ¼ and 4, where it is used",
}
"""What a step can ask for, by the names of its arguments."""
OF_EACH_CALL = ("loss", "last")
"""Those that change from micro-step to micro-step; :meth:`Step.begin` has none of them."""


class Step:
    """A step of your own: a subclass with one method, constructed anew, without arguments, for every program.

    ``step(loss, …)`` is called once for each micro-step, with what its arguments name of :data:`OFFERED`.

    Attributes:
        promises: policies that it is held to whatever it was seen to do, each ``NAME=VALUE`` as ``--promise`` has it.
        updates: where it is kept up to date, the number of updates as the step counts them; ``None`` where it counts
            nothing.
    """

    promises: ClassVar[Sequence[str]] = ()
    updates: int | None = None
    step: Callable[..., Any]

    def begin(self) -> None:
        """Called once before the first loss, to wrap an optimizer or to keep what ``step`` doesn't ask for again: its
        arguments, too, name what they want, except ``loss`` and ``last``.

        A subclass with ``state_dict()`` and ``load_state_dict(state)`` is also saved and restored on the way: a new one
        is begun with new objects, and loads what the old one gave: plain values and tensors, as a file may hold them.
        """
