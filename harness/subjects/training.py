"""Adapt a whole training: its own model, loss, optimizer and batches, and its own step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from harness.errors import SubjectError, describe_exception, reraise_unless_subjects
from harness.protocols import TrainingLike
from harness.subject_spec import SubjectSpec
from harness.subjects.door import load_object

_METHODS = ("batch_images", "train_on", "optimizer_step", "state_dict", "load_state_dict")
_ATTRIBUTES = ("model", "optimizer", "lr_scheduler", "fwdbwd_pass_step", "param_update_step")


@dataclass(frozen=True)
class TrainingSettings:
    """What the harness settles for a training, anew for every fault program.

    Attributes:
        scaler: enabled for float16 only.
        device: ``cpu`` or ``cuda``.
        amp_dtype: of the autocast around its forward pass, or ``None`` for none.
    """

    scaler: torch.amp.GradScaler
    device: str
    amp_dtype: torch.dtype | None
    accumulation: int
    clip_norm: float
    norm_factor: float


@dataclass(frozen=True)
class TrainingFactory:
    """Builds trainings of one class."""

    name: SubjectSpec
    cls: Any

    def build(self, settings: TrainingSettings) -> TrainingLike:
        """A new training.

        Raises:
            SubjectError: it can't be constructed as :class:`harness.protocols.TrainingLike` says, or lacks an
                attribute.
        """
        try:
            training: TrainingLike = self.cls(
                settings.scaler,
                device=settings.device,
                amp_dtype=settings.amp_dtype,
                grad_accum_steps=settings.accumulation,
                grad_clip_norm=settings.clip_norm,
                allowed_gradnorm_factor=settings.norm_factor,
            )
        except BaseException as error:
            reraise_unless_subjects(error)
            raise SubjectError(
                f"{self.name.spec} can't be constructed as {self.cls.__name__}(scaler, device=…, amp_dtype=…, "
                f"grad_accum_steps=…, grad_clip_norm=…, allowed_gradnorm_factor=…): {describe_exception(error)}."
            ) from error
        if missing := [name for name in _ATTRIBUTES if not hasattr(training, name)]:
            raise SubjectError(f"{self.name.spec}: a training needs the attributes {', '.join(missing)}.")
        return training


def is_training(found: Any) -> bool:
    """Whether it is a class of a whole training's shape, which no other step's has."""
    return isinstance(found, type) and callable(getattr(found, "train_on", None))


def load_training(subject: SubjectSpec) -> TrainingFactory:
    """Load and adapt a whole training.

    Raises:
        SubjectError: it can't be loaded, or as :func:`adapt_training`.
    """
    return adapt_training(load_object(subject.spec, subject.root), subject)


def adapt_training(cls: Any, name: SubjectSpec) -> TrainingFactory:
    """The factory of a whole training's class.

    Raises:
        SubjectError: it is none, a method is missing, or it can't be constructed.
    """
    if not is_training(cls):
        raise SubjectError(f"{name.spec} is no whole training: a class with train_on(images).")
    if missing := [method for method in _METHODS if not callable(getattr(cls, method, None))]:
        raise SubjectError(f"{name.spec} has train_on(), as a whole training has, but lacks {missing[0]}().")
    factory = TrainingFactory(name, cls)
    factory.build(plain_settings())
    return factory


def plain_settings() -> TrainingSettings:
    """float32 on the CPU, every pass a window."""
    return TrainingSettings(torch.amp.GradScaler("cpu", enabled=False), "cpu", None, 1, 1.0, 20.0)
