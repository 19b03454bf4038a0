"""Adapt a training step: of our own shape or FaceLift's, to a driver that is fed loss by loss, or a whole training."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from harness.adapters import OFFERED
from harness.errors import SubjectError, describe_exception, reraise_unless_subjects
from harness.oracle.policies import CLIP_NORM, PROMISED, Policies
from harness.protocols import AmpStepLike, StepDriver, StepReport, report_of
from harness.subject_spec import SubjectSpec
from harness.subjects.called_steps import CalledStepDriver, may_be_none, misfit, shape_of
from harness.subjects.door import load_object
from harness.subjects.facelift import FaceLiftDriver, learn_calling_convention
from harness.subjects.training import is_training


@dataclass(frozen=True)
class StepParts:
    """What a step works on, made anew for every fault program."""

    parameters: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    lr_scheduler: torch.optim.lr_scheduler.LRScheduler | None
    accumulation: int
    clip_norm: float | None
    norm_factor: float


@dataclass(frozen=True)
class StepFactory:
    """Builds drivers of one step subject.

    Attributes:
        keeps_state: the subject can save and restore itself.
        reports: the subject says what each window's end did.
        counts: it counts its passes and updates.
        schedules: it advances the learning rate's schedule.
        call: how it is called at a window's end, for messages.
        promised: the policies that its shape promises, since it is handed their numbers; ``None``: it promises none,
            and is held to what it is seen to do.
        promises_said: policies that it says itself that it promises, each ``NAME=VALUE``.
        policies: those that it is held to: promised, or found out.
        clips_apart: each of its optimizers' gradients were seen to be clipped by a norm of their own.
        handed_clip: it is handed a norm to clip to.
        promises_unclipped: its shape promises that nothing is clipped where that norm is 0 or ``None``.
        several: it takes several optimizers.
        averages: it takes running averages of the parameters.
        table: what it was seen to do, as questions and answers.
        unscheduled: its schedule may be ``None``, as the default that it has for it says.
        clips: the clip norms that it is handed: found out.
    """

    name: SubjectSpec
    keeps_state: bool
    reports: bool
    build: Callable[[StepParts], StepDriver]
    counts: bool = True
    schedules: bool = True
    call: str = ""
    promised: Policies | None = None
    promises_said: tuple[str, ...] = ()
    policies: Policies = PROMISED
    clips_apart: bool = False
    handed_clip: bool = False
    promises_unclipped: bool = False
    several: bool = False
    averages: bool = False
    table: tuple[tuple[str, str], ...] = ()
    unscheduled: bool = False
    clips: tuple[float | None, ...] = (CLIP_NORM,)

    @property
    def promises(self) -> bool:
        """Its shape is a contract: it promises the policies whose numbers it is handed, to drop a window without
        gradients, and to leave none when a window ends.
        """
        return self.promised is not None

    @property
    def said(self) -> tuple[str, ...]:
        """What it says that it promises, then what its user says, each ``NAME=VALUE``; of one name the last wins."""
        return (*self.promises_said, *self.name.promises)


class AmpStepDriver:
    """A step of our own shape, :class:`harness.protocols.AmpStepLike`."""

    def __init__(self, step: AmpStepLike) -> None:
        self._step = step

    def micro_step(self, loss: Float[Tensor, ""]) -> StepReport | None:
        self._step.backward(loss)
        return report_of(self._step.step())

    def counters(self) -> tuple[int, int]:
        return int(self._step.fwdbwd_pass_step), int(self._step.param_update_step)

    def averaged(self) -> int | None:
        return None

    def state_dict(self) -> dict[str, Any]:
        return self._step.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._step.load_state_dict(state)


def load_fed_step(subject: SubjectSpec) -> StepFactory:
    """Load and adapt a step that is fed loss by loss.

    Raises:
        SubjectError: it can't be loaded, or as :func:`adapt_fed_step`.
    """
    return adapt_fed_step(load_object(subject.spec, subject.root), subject)


def adapt_fed_step(cls: Any, name: SubjectSpec) -> StepFactory:
    """The factory of a class of our shape or FaceLift's.

    Raises:
        SubjectError: it has no such shape, or raises AttributeError on a plain good step.
    """
    spec = name.spec
    if (shape := shape_of(cls)) is not None:

        def driver(parts: StepParts) -> StepDriver:
            return CalledStepDriver(cls, shape, parts)

        return StepFactory(
            name,
            keeps_state=shape.saves,
            reports=False,
            build=driver,
            counts=shape.counts,
            schedules=shape.asks_for("scheduler", "schedulers") and not shape.native,
            call=shape.written,
            promises_said=shape.promises,
            handed_clip=shape.asks_for("clip_norm") or (shape.native and "clip_grad" in shape.takes),
            several=shape.asks_for("optimizers"),
            averages=shape.asks_for("ema"),
            unscheduled=not shape.native and shape.can_do_without("scheduler", "schedulers"),
        )
    own_shapes = ("optimizer_step", "backward", "train_on")
    if why := "" if any(hasattr(cls, name) for name in own_shapes) else misfit(cls):
        raise SubjectError(f"{spec} fits no shape of a step: {why}.")
    if not isinstance(cls, type):
        raise SubjectError(
            f"{spec} is a {type(cls).__name__}; a step must be a class, or a function step(loss, optimizer, …) that "
            f"takes of {', '.join(OFFERED)} what it needs."
        )
    if is_training(cls):
        raise SubjectError(f"{spec} is a whole training; here a step is needed that is fed losses.")
    if callable(optimizer_step := getattr(cls, "optimizer_step", None)):
        call = f"{cls.__name__}.optimizer_step(result)"
        if wants := _other_arguments(optimizer_step):
            raise SubjectError(
                f"{spec} does not fit: it would be called as {call}, but wants optimizer_step{wants}; put it before "
                f"the harness in a subclass of harness.adapters.Step."
            )
        convention = learn_calling_convention(cls, spec)
        return StepFactory(
            name,
            keeps_state=False,
            reports=False,
            build=lambda parts: FaceLiftDriver(cls, parts, convention),
            call=call,
            promised=PROMISED,
            handed_clip=True,
        )
    missing = [m for m in ("backward", "step", "state_dict", "load_state_dict") if not hasattr(cls, m)]
    if missing:
        raise SubjectError(
            f"{spec} fits no shape of a step: it has neither train_on(images) nor optimizer_step(result), and lacks "
            f"{', '.join(missing)} of backward(loss), step(), state_dict() and load_state_dict()."
        )

    def build(parts: StepParts) -> StepDriver:
        try:
            step = cls(
                parts.optimizer,
                parts.scaler,
                parts.lr_scheduler,
                grad_accum_steps=parts.accumulation,
                grad_clip_norm=parts.clip_norm,
                allowed_gradnorm_factor=parts.norm_factor,
            )
        except BaseException as error:
            reraise_unless_subjects(error)
            raise SubjectError(
                f"{spec} can't be constructed as {cls.__name__}(optimizer, scaler, lr_scheduler, grad_accum_steps=…, "
                f"grad_clip_norm=…, allowed_gradnorm_factor=…): {describe_exception(error)}."
            ) from error
        return AmpStepDriver(step)

    return StepFactory(
        name,
        keeps_state=True,
        reports=True,
        build=build,
        call=f"{cls.__name__}.backward(loss) and step()",
        promised=PROMISED,
        handed_clip=True,
        promises_unclipped=True,
        unscheduled="lr_scheduler" in may_be_none(cls),
    )


def _other_arguments(method: Any) -> str:
    """The arguments that a method wants, where a result alone isn't enough or is too many; else empty."""
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):
        return ""
    try:
        signature.bind(None, None)
    except TypeError:
        return f"({', '.join(list(signature.parameters)[1:])})"
    return ""
