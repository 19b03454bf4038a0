"""A FaceLift-shaped trainer, tested as it is: built without ``__init__`` and handed what ``optimizer_step`` uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from harness.errors import SubjectError, describe_exception, reraise_unless_subjects
from harness.protocols import StepReport

if TYPE_CHECKING:
    from harness.subjects.step import StepParts


class AttributeDict(dict[str, Any]):
    """A dictionary whose entries are attributes too, as the trainer's configuration is."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the harness's configuration and result hold no {name!r}") from None


@dataclass(frozen=True)
class CallingConvention:
    """When the trainer's loop calls ``optimizer_step``, which the method alone doesn't tell.

    Attributes:
        every_pass: on every pass, the method itself watching for the window's end; else at the window's end only.
        counted_before: ``fwdbwd_pass_step`` already counts the pass when the method is called.
    """

    every_pass: bool
    counted_before: bool


class FaceLiftDriver:
    """Feeds a trainer: divides and scales the loss and back-propagates, as its ``train_step`` does."""

    def __init__(self, cls: Any, parts: StepParts, convention: CallingConvention) -> None:
        self._parts = parts
        self._convention = convention
        self._trainer: Any = cls.__new__(cls)
        if isinstance(self._trainer, nn.Module):
            nn.Module.__init__(self._trainer)
        runtime = AttributeDict(
            grad_accum_steps=parts.accumulation,
            grad_clip_norm=parts.clip_norm,
            allowed_gradnorm_factor=parts.norm_factor,
        )
        attributes = {
            "optimizer": parts.optimizer,
            "scaler": parts.scaler,
            "lr_scheduler": parts.lr_scheduler,
            "optim_param_dict": dict(parts.parameters),
            "optim_param_list": list(parts.parameters.values()),
            "config": AttributeDict(training=AttributeDict(runtime=runtime)),
            "fwdbwd_pass_step": 0,
            "param_update_step": 0,
            # Rank 0 is the one that logs.
            "ddp_rank": 0,
        }
        for name, value in attributes.items():
            object.__setattr__(self._trainer, name, value)
        self._passes = 0

    def micro_step(self, loss: Float[Tensor, ""]) -> StepReport | None:
        accumulation = self._parts.accumulation
        if loss.requires_grad:
            self._parts.scaler.scale(loss / accumulation).backward()
        self._passes += 1
        ends_window = self._passes % accumulation == 0
        self._trainer.fwdbwd_pass_step = self._passes - (0 if self._convention.counted_before else 1)
        if ends_window or self._convention.every_pass:
            detached = loss.detach()
            self._trainer.optimizer_step(AttributeDict(loss=detached, loss_metrics=AttributeDict(loss=detached)))
        return StepReport(None, None, None) if ends_window else None

    def counters(self) -> tuple[int, int]:
        return self._passes, int(self._trainer.param_update_step)

    def averaged(self) -> int | None:
        return None

    def state_dict(self) -> dict[str, Any]:
        raise SubjectError("a FaceLift-shaped step saves itself elsewhere than in optimizer_step.")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise SubjectError("a FaceLift-shaped step restores itself elsewhere than in optimizer_step.")


def learn_calling_convention(cls: Any, spec: str) -> CallingConvention:
    """Find, by one good window of two passes, how the trainer's loop must call ``optimizer_step``.

    Raises:
        SubjectError: the method uses an attribute that the harness doesn't provide.
    """
    conventions = [CallingConvention(*flags) for flags in ((True, True), (True, False), (False, True), (False, False))]
    for convention in conventions:
        if _moves_at_the_end_only(cls, convention, spec):
            return convention
    return CallingConvention(every_pass=False, counted_before=True)


def _moves_at_the_end_only(cls: Any, convention: CallingConvention, spec: str) -> bool:
    from harness.subjects.step import StepParts

    parameter = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    parts = StepParts(
        {"weight": parameter},
        optimizer,
        torch.amp.GradScaler("cpu", enabled=False),
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0),
        accumulation=2,
        clip_norm=1.0,
        norm_factor=20.0,
    )
    try:
        driver = FaceLiftDriver(cls, parts, convention)
        driver.micro_step(0.1 * parameter.sum())
        early = not torch.equal(parameter.detach(), torch.ones(2))
        driver.micro_step(0.1 * parameter.sum())
    except AttributeError as error:
        raise SubjectError(
            f"{spec}: optimizer_step uses what the harness does not provide: {describe_exception(error)}. "
            f"It provides optimizer, scaler, lr_scheduler, optim_param_dict, optim_param_list, "
            f"config.training.runtime, fwdbwd_pass_step, "
            f"param_update_step and ddp_rank."
        ) from error
    except BaseException as error:
        reraise_unless_subjects(error)
        # A step that raises even here is for the properties to convict.
        return False
    return not early and not torch.equal(parameter.detach(), torch.ones(2))
