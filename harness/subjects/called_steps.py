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

from harness.adapters import OF_EACH_CALL, OFFERED, Step
from harness.errors import SubjectError, describe_exception, reraise_unless_subjects
from harness.protocols import StepReport
from harness.subjects.handed import Handed

if TYPE_CHECKING:
    from harness.subjects.step import StepParts

_NATIVE = ("need_update", "update_grad")
_SAVING = ("state_dict", "load_state_dict")


@dataclass(frozen=True)
class CallingShape:
    """How a step is called.

    Attributes:
        native: a scaler of its own that is called with the loss; its caller clears the gradients and has the schedule.
        takes: those of the offered names that it takes.
        written: the call, for messages.
        optional: those whose default is ``None``.
        begins: those that its ``begin()`` takes, where it has one.
        saves: it has ``state_dict()`` and ``load_state_dict(state)``.
        counts: it keeps ``updates``.
        promises: what it says that it promises, each ``NAME=VALUE``.
    """

    native: bool
    takes: tuple[str, ...]
    written: str
    optional: tuple[str, ...] = ()
    begins: tuple[str, ...] = ()
    saves: bool = False
    counts: bool = False
    promises: tuple[str, ...] = ()

    def asks_for(self, *names: str) -> bool:
        """Whether it takes any of these, when it begins or later."""
        return bool({*self.takes, *self.begins} & set(names))

    def can_do_without(self, *names: str) -> bool:
        """Whether it takes any of these, and has ``None`` as the default of each that it takes."""
        return self.asks_for(*names) and not ({*self.takes, *self.begins} & set(names)) - set(self.optional)


def shape_of(found: Any) -> CallingShape | None:
    """The shape of a function ``f(loss, optimizer, …)``, of a class whose objects have such a method ``step`` or are
    called so, or of a :class:`harness.adapters.Step`; ``None`` for none of them.
    """
    if _is_kit(found):
        return _kit_shape(found)
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


def misfit(found: Any) -> str:
    """What a step that is called wants and isn't offered, as the end of a sentence; empty where that isn't it."""
    step = getattr(found, "step", None) if inspect.isclass(found) else found
    if _is_kit(found):
        if not callable(step):
            return f"it is a {Step.__module__}.Step, but has no method step(loss, …)"
        begins, to_begin = list(_names(found.begin))[1:], [name for name in OFFERED if name not in OF_EACH_CALL]
        if wanted := [name for name in begins if name not in to_begin]:
            return f"begin({', '.join(begins)}) wants {', '.join(wanted)}, and is offered {', '.join(to_begin)} alone"
    if not callable(step) or isinstance(step, type) or "loss" not in (parameters := _names(step)):
        return ""
    asked = [name for name in parameters if name != "self"]
    wanted = [name for name in _required(parameters) if name not in (*OFFERED, "self")]
    call = f"{getattr(step, '__name__', 'step')}({', '.join(asked)})"
    if wanted:
        return f"{call} wants {', '.join(wanted)}, and a step that is called is offered {', '.join(OFFERED)} alone"
    return f"{call} must begin with loss, optimizer (or be of a subclass of harness.adapters.Step, and begin with loss)"


def _is_kit(found: Any) -> bool:
    return inspect.isclass(found) and issubclass(found, Step)


def _kit_shape(cls: type[Step]) -> CallingShape | None:
    parameters = _names(cls.step) if callable(getattr(cls, "step", None)) else {}
    begins = list(_names(cls.begin))[1:]
    takes = list(parameters)[1:]
    unknown = set(_required(parameters)[1:]) - set(OFFERED)
    if takes[:1] != ["loss"] or unknown or set(begins) - (set(OFFERED) - set(OF_EACH_CALL)):
        return None
    return CallingShape(
        False,
        tuple(name for name in takes if name in OFFERED),
        f"{cls.__name__}().step({', '.join(takes)})",
        optional=_optional_everywhere(cls),
        begins=tuple(begins),
        saves=all(callable(getattr(cls, name, None)) for name in _SAVING),
        counts=cls.updates is not None,
        promises=tuple(cls.promises),
    )


def _optional_everywhere(cls: type[Step]) -> tuple[str, ...]:
    """Those that may be ``None`` for ``begin`` and ``step`` both, as far as they take them."""
    calls = (cls.begin, cls.step)
    optional = [name for call in calls for name in may_be_none(call)]
    return tuple(name for name in optional if all(name in may_be_none(c) for c in calls if name in _names(c)))


def _names(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return {}


def _required(parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    """Those without a default; a catch-all needs none."""
    catch_all = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [n for n, p in parameters.items() if p.default is inspect.Parameter.empty and p.kind not in catch_all]


def _offered(function: Callable[..., Any], bound: bool) -> tuple[str, ...]:
    """The names that it takes, where a loss and an optimizer are the first and nothing else is required."""
    parameters = _names(function)
    names = list(parameters)[1:] if bound else list(parameters)
    required = [name for name in _required(parameters) if name in names]
    if names[:2] not in (["loss", "optimizer"], ["loss", "optimizers"]) or not set(required) <= set(OFFERED):
        return ()
    return tuple(name for name in names if name in OFFERED)


class CalledStepDriver:
    """Calls the step with each micro-step's loss, already divided by the window's length."""

    def __init__(self, found: Any, shape: CallingShape, parts: StepParts) -> None:
        self._parts, self._shape, self._passes = parts, shape, 0
        self._handed = Handed(parts)
        self._call = self._object = found
        if inspect.isclass(found):
            self._object = self._built(found)
            self._call = self._object if shape.native else self._object.step
            if shape.native:
                self._hand_over_scaler(self._object)
        if _is_kit(found):
            self._begin(shape.begins)

    def micro_step(self, loss: Float[Tensor, ""]) -> StepReport | None:
        self._passes += 1
        last = self._passes % self._parts.accumulation == 0
        before = self._handed.parameters()
        self._call(**self._arguments(loss / self._parts.accumulation, last))
        if not last:
            return None
        if self._shape.native:
            self._parts.optimizer.zero_grad()
        self._handed.gather(before)
        return StepReport(None, None, None)

    def counters(self) -> tuple[int, int]:
        return self._passes, int(self._object.updates) if self._shape.counts else 0

    def averaged(self) -> int | None:
        return self._handed.averaged() if self._shape.asks_for("ema") else None

    def state_dict(self) -> dict[str, Any]:
        if not self._shape.saves:
            raise SubjectError("a step that is called saves itself elsewhere.")
        return {"step": self._object.state_dict(), "passes": self._passes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if not self._shape.saves:
            raise SubjectError("a step that is called restores itself elsewhere.")
        self._object.load_state_dict(state["step"])
        self._passes = state["passes"]
        self._handed.gather(None)

    def _arguments(self, loss: Tensor, last: bool) -> Mapping[str, Any]:
        of_this_call = {"loss": loss, "last": last}
        if self._shape.native:
            of_this_call |= dict.fromkeys(_NATIVE, last) | {"clip_grad": self._parts.clip_norm}
        names = [name for name in self._shape.takes if name in of_this_call or name in OFFERED]
        return {name: of_this_call[name] if name in of_this_call else self._handed[name] for name in names}

    def _begin(self, names: tuple[str, ...]) -> None:
        try:
            self._object.begin(**{name: self._handed[name] for name in names})
        except BaseException as error:
            reraise_unless_subjects(error)
            raise SubjectError(
                f"{type(self._object).__name__}().begin({', '.join(names)}) raised {describe_exception(error)}."
            ) from error

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
