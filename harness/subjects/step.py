"""Adapt a training step: of our own shape or FaceLift's, to a driver that is fed loss by loss, or a whole training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from harness.errors import SubjectError, describe_exception, reraise_unless_subjects
from harness.oracle.policies import CLIP_NORM, PROMISED, Policies
from harness.protocols import AmpStepLike, StepDriver, StepReport, report_of
from harness.subject_spec import SubjectSpec
from harness.subjects.average import Average
from harness.subjects.called_steps import OFFERED, CalledStepDriver, may_be_none, shape_of
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
    average: Average = field(default_factory=Average)


@dataclass(frozen=True)
class StepFactory:
    """Builds drivers of one step subject.

    Attributes:
        keeps_state: the subject can save and restore itself.
        reports: the subject says what each window's end did.
        counts: it counts its passes and updates.
        schedules: it advances the learning rate's schedule.
        call: how it is called at a window's end, for messages.
        policies: those that it is held to: promised, or found out.
        table: what it was seen to do, as questions and answers.
        averages: it is handed an average of the parameters.
        handed_clip: it is handed a clip norm.
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
    policies: Policies = PROMISED
    table: tuple[tuple[str, str], ...] = ()
    averages: bool = False
    handed_clip: bool = False
    unscheduled: bool = False
    clips: tuple[float | None, ...] = (CLIP_NORM,)

    @property
    def promises(self) -> bool:
        """It is handed a clip norm and a norm factor, and so promises to use them."""
        return self.counts


class AmpStepDriver:
    """A step of our own shape, :class:`harness.protocols.AmpStepLike`."""

    def __init__(self, step: AmpStepLike) -> None:
        self._step = step

    def micro_step(self, loss: Float[Tensor, ""]) -> StepReport | None:
        self._step.backward(loss)
        return report_of(self._step.step())

    def counters(self) -> tuple[int, int]:
        return int(self._step.fwdbwd_pass_step), int(self._step.param_update_step)

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

        schedules = "scheduler" in shape.takes and not shape.native
        return StepFactory(
            name,
            False,
            False,
            driver,
            False,
            schedules,
            shape.written,
            averages="ema" in shape.takes,
            handed_clip=shape.native and "clip_grad" in shape.takes,
            unscheduled="scheduler" in shape.optional,
        )
    if not isinstance(cls, type):
        raise SubjectError(
            f"{spec} is a {type(cls).__name__}; a step must be a class, or a function step(loss, optimizer, …) that "
            f"takes of {', '.join(OFFERED)} what it needs."
        )
    if is_training(cls):
        raise SubjectError(f"{spec} is a whole training; here a step is needed that is fed losses.")
    if callable(getattr(cls, "optimizer_step", None)):
        convention = learn_calling_convention(cls, spec)
        call = f"{cls.__name__}.optimizer_step(result)"
        return StepFactory(
            name,
            False,
            False,
            lambda parts: FaceLiftDriver(cls, parts, convention),
            call=call,
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

    call = f"{cls.__name__}.backward(loss) and step()"
    optional = "lr_scheduler" in may_be_none(cls)
    return StepFactory(name, True, True, build, call=call, handed_clip=True, unscheduled=optional)
