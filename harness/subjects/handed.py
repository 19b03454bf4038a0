"""What a step that is called is handed by name, made of the parts that every step works on."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

if TYPE_CHECKING:
    from harness.subjects.step import StepParts

_EMA_DECAY = 0.5


class _Model(nn.Module):
    """Holds the parameters, for what wants a module: it is not called."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        for name, parameter in parameters.items():
            self.register_parameter(name, parameter)


class Averages(AveragedModel):
    """torch's running averages (EMA), which also answer to the names that others have for them: ``update`` (timm) and
    ``step`` (diffusers), with whatever arguments.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model, multi_avg_fn=get_ema_multi_avg_fn(_EMA_DECAY))
        # In a tuple, so that it is no submodule, whose parameters would be the averages'.
        self._of = (model,)

    def update(self, *_: Any, **__: Any) -> None:
        self.update_parameters(*self._of)

    step = update


class Handed:
    """The objects that a step may ask for, each made when it is first asked for.

    Several optimizers share the groups of the one: who looks at its rates sees theirs.
    """

    def __init__(self, parts: StepParts) -> None:
        self._parts = parts
        self._made: dict[str, Any] = {
            "optimizer": parts.optimizer,
            "scaler": parts.scaler,
            "scheduler": parts.lr_scheduler,
            "parameters": list(parts.parameters.values()),
            "clip_norm": parts.clip_norm,
        }

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = getattr(self, f"_make_{name}")()
        return self._made[name]

    def averaged(self) -> int:
        """How often the running averages were updated."""
        return int(self["ema"].n_averaged)

    def parameters(self) -> dict[str, Tensor] | None:
        """As they stand, where :meth:`gather` needs to know."""
        if "schedulers" not in self._made and "optimizers" not in self._made:
            return None
        return {name: p.detach().clone() for name, p in self._parts.parameters.items()}

    def gather(self, before: Mapping[str, Tensor] | None) -> None:
        """Show several optimizers' rates and schedules as the one that is looked at. Where schedules stand apart, it is
        the one that is wrong: after an update the last, and after a dropped window the first.
        """
        for group, optimizer in zip(self._parts.optimizer.param_groups, self._made.get("optimizers", ()), strict=False):
            # Loading a state makes new groups.
            group["lr"] = optimizer.param_groups[0]["lr"]
        whole, schedulers = self._parts.lr_scheduler, self._made.get("schedulers")
        if whole is None or schedulers is None:
            return
        steps = [scheduler.last_epoch for scheduler in schedulers]
        moved = before is not None and any(
            not torch.equal(p.detach(), before[name]) for name, p in self._parts.parameters.items()
        )
        whole.last_epoch = min(steps) if moved else max(steps)

    def _make_model(self) -> nn.Module:
        return _Model(self._parts.parameters)

    def _make_ema(self) -> Averages:
        return Averages(self["model"])

    def _make_optimizers(self) -> list[torch.optim.Optimizer]:
        whole: Any = self._parts.optimizer
        # AdamW's defaults have more than it can be constructed with.
        known = inspect.signature(type(whole)).parameters
        how = {name: value for name, value in whole.defaults.items() if name in known}
        return [type(whole)([group], **how) for group in whole.param_groups]

    def _make_schedulers(self) -> list[torch.optim.lr_scheduler.LRScheduler] | None:
        whole: Any = self._parts.lr_scheduler
        if whole is None:
            return None
        return [type(whole)(optimizer, whole.lr_lambdas[0]) for optimizer in self["optimizers"]]
