"""Steps that are called once for each micro-step: a function or a method with arguments of these names, or a native
scaler as timm, Swin and MAE have it."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from harness.errors import SubjectError, describe_exception, reraise_unless_subjects
from harness.protocols import StepReport

if TYPE_CHECKING:
    from harness.subjects.step import StepParts

OFFERED = ("loss", "optimizer", "scaler", "scheduler", "parameters", "ema", "last")
"""What a step that is called can ask for, by the names of its parameters."""
_NATIVE = ("need_update", "update_grad")


@dataclass(frozen=True)
class CallingShape:
    """How a step is called.

    Attributes:
        native: a scaler of its own that is called with the loss; its caller clears the gradients and has the schedule.
        takes: those of the offered names that it takes.
        written: the call, for messages.
        optional: those whose default is ``None``.
    """

    native: bool
    takes: tuple[str, ...]
    written: str
    optional: tuple[str, ...] = ()


def shape_of(found: Any) -> CallingShape | None:
    """The shape of a function ``f(loss, optimizer, …)``, of a class whose objects have such a method ``step`` or are
    called so; ``None`` for none of them.
    """
    if inspect.isclass(found):
        step, call = getattr(found, "step", None), found.__dict__.get("__call__")
        if callable(step) and (takes := _offered(step, bound=True)):
            return CallingShape(False, takes, f"{found.__name__}().step({', '.join(takes)})", may_be_none(step))
        if call is not None and "loss" in (names := _names(call)) and set(_NATIVE) & set(names):
            return CallingShape(True, tuple(names), f"{found.__name__}()({', '.join(names)})")
        return None
    if callable(found) and not isinstance(found, torch.nn.Module) and (takes := _offered(found, bound=False)):
        written = f"{getattr(found, '__name__', 'step')}({', '.join(takes)})"
        return CallingShape(False, takes, written, may_be_none(found))
    return None


def may_be_none(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of its parameters whose default is ``None``, and which it so says that it can do without."""
    return tuple(name for name, parameter in _names(function).items() if parameter.default is None)


def _names(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return {}


def _offered(function: Callable[..., Any], bound: bool) -> tuple[str, ...]:
    """The names that it takes, where a loss and an optimizer are the first and nothing else is required."""
    parameters = _names(function)
    names = list(parameters)[1:] if bound else list(parameters)
    required = [n for n in names if parameters[n].default is inspect.Parameter.empty]
    if names[:2] != ["loss", "optimizer"] or not set(required) <= set(OFFERED):
        return ()
    return tuple(name for name in names if name in OFFERED)


class CalledStepDriver:
    """Calls the step with each micro-step's loss, already divided by the window's length."""

    def __init__(self, found: Any, shape: CallingShape, parts: StepParts) -> None:
        self._parts, self._shape, self._passes = parts, shape, 0
        self._call = found
        if inspect.isclass(found):
            built = self._built(found)
            self._call = built if shape.native else built.step
            if shape.native:
                self._hand_over_scaler(built)

    def micro_step(self, loss: Float[Tensor, ""]) -> StepReport | None:
        self._passes += 1
        last = self._passes % self._parts.accumulation == 0
        self._call(**self._arguments(loss / self._parts.accumulation, last))
        if not last:
            return None
        if self._shape.native:
            self._parts.optimizer.zero_grad()
        return StepReport(None, None, None)

    def counters(self) -> tuple[int, int]:
        return self._passes, 0

    def state_dict(self) -> dict[str, Any]:
        raise SubjectError("a step that is called saves itself elsewhere.")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise SubjectError("a step that is called restores itself elsewhere.")

    def _arguments(self, loss: Tensor, last: bool) -> Mapping[str, Any]:
        parts = self._parts
        offered = {
            "loss": loss,
            "optimizer": parts.optimizer,
            "scaler": parts.scaler,
            "scheduler": parts.lr_scheduler,
            "parameters": list(parts.parameters.values()),
            "ema": parts.average,
            "last": last,
        }
        if self._shape.native:
            offered |= dict.fromkeys(_NATIVE, last) | {"clip_grad": parts.clip_norm}
        return {name: value for name, value in offered.items() if name in self._shape.takes}

    def _built(self, cls: Any) -> Any:
        try:
            with warnings.catch_warnings():
                # A GradScaler says that there is no GPU, each time; it is replaced.
                warnings.simplefilter("ignore")
                return cls()
        except BaseException as error:
            reraise_unless_subjects(error)
            raise SubjectError(
                f"{cls.__name__}() raised {describe_exception(error)}; a step that is called is constructed without "
                f"arguments."
            ) from error

    def _hand_over_scaler(self, built: Any) -> None:
        """The harness's scaler in place of its own, which without a GPU would have switched itself off."""
        own = [name for name, value in vars(built).items() if isinstance(value, torch.amp.GradScaler)]
        if len(own) != 1:
            raise SubjectError(
                f"{type(built).__name__}() has {len(own)} attributes that are a GradScaler; it needs one."
            )
        setattr(built, own[0], self._parts.scaler)
