"""What a subject must offer. Loading and adapting is :mod:`harness.subjects`' work; everything else sees only this."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from harness.errors import printable
from harness.subject_spec import SubjectSpec


class LossKind(str, enum.Enum):
    """How a loss is called."""

    MASKED = "masked"  # loss(rendering, target, mask)
    BARE = "bare"  # loss(x, y)
    POINTS = "points"  # loss(xyz, origin, direction, mask)


class LossSubject(Protocol):
    """A loss ready to be called. It is always handed a mask; one whose kind is bare doesn't get to see it."""

    @property
    def name(self) -> SubjectSpec: ...

    @property
    def kind(self) -> LossKind: ...

    @property
    def definition(self) -> Any:
        """What it is held to: a :class:`harness.oracle.definitions.LossDefinition`."""

    @property
    def convolutions(self) -> Sequence[tuple[Tensor, Tensor]] | None:
        """Kernels and biases of the network that the loss looks through, where its truth needs them."""

    def __call__(self, *inputs: Shaped[Tensor, "n c h w"]) -> Float[Tensor, ""]:
        """The loss of (rendering, target, mask), or of (xyz, origin, direction, mask) where its kind is on points.
        Whatever the subject raises passes through.
        """

    @property
    def module(self) -> nn.Module | None:
        """What it is, where that is a module: has a state dict, and can be cast."""

    def copied(self) -> LossSubject:
        """A deep copy."""

    def fresh(self) -> LossSubject:
        """As it was before its first call. Of a function, which is one alone, itself."""

    def constructed(self) -> LossSubject:
        """Another of its class, constructed with the same arguments. Of what has no class to be constructed, fresh."""

    def evaluating(self) -> AbstractContextManager[None]:
        """Surrounds calls in eval mode, where it has modes."""


@runtime_checkable
class AmpStepLike(Protocol):
    """The training step's own shape, constructed as ``cls(optimizer, scaler, lr_scheduler, grad_accum_steps=…,
    grad_clip_norm=…, allowed_gradnorm_factor=…)``.

    A ``grad_clip_norm`` of 0 or ``None`` means that nothing is clipped and no norm too large. ``lr_scheduler`` may be
    ``None`` where that is the default.

    ``backward(loss)`` divides by ``grad_accum_steps``, scales and back-propagates; ``step()`` ends the window when it
    is full, returning an object with ``stepped``, ``reason``, ``grad_norm`` and ``scale``, else ``None``.
    """

    fwdbwd_pass_step: int
    param_update_step: int

    def backward(self, loss: Tensor) -> None: ...
    def step(self) -> Any: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class TrainingLike(Protocol):
    """A whole training in the small, constructed as ``cls(scaler, device=…, amp_dtype=…, grad_accum_steps=…,
    grad_clip_norm=…, allowed_gradnorm_factor=…)``: a model, its loss, its optimizer, its schedule and its batches.

    It opens autocast itself, on ``device`` in ``amp_dtype`` (``None``: no autocast), and its learning rate starts
    above 0.  Two built alike are alike to the bit.  With ``torch.distributed`` initialised it trains as one of its
    processes.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    lr_scheduler: torch.optim.lr_scheduler.LRScheduler
    fwdbwd_pass_step: int
    param_update_step: int

    def batch_images(self, pass_step: int) -> Float[Tensor, "b v c h w"]:
        """The views of this pass' batch: RGB in [0, 1] and, as fourth channel where there is one, the mask."""

    def train_on(self, images: Float[Tensor, "b v c h w"]) -> Float[Tensor, ""]:
        """One pass forward and backward with these images in place of the batch's; its loss, undivided."""

    def optimizer_step(self) -> Any:
        """End the window when it is full, returning what :meth:`AmpStepLike.step` does; else ``None``."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that a new one needs to go on alike, model included."""

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class StepReport:
    """What a step says of itself at the end of a window; ``None`` where it doesn't say."""

    stepped: bool | None
    grad_norm: float | None
    scale: float | None
    reason: str | None = None


def report_of(outcome: Any) -> StepReport | None:
    """What a step of our own shape returned, read."""
    if outcome is None:
        return None
    stepped, norm, scale, reason = (
        getattr(outcome, name, None) for name in ("stepped", "grad_norm", "scale", "reason")
    )
    return StepReport(
        None if stepped is None else bool(stepped),
        None if norm is None else float(norm),
        None if scale is None else float(scale),
        None if reason is None else printable(str(getattr(reason, "value", reason))),
    )


class StepDriver(Protocol):
    """One training step under test, whatever its shape: fed loss by loss."""

    def micro_step(self, loss: Float[Tensor, ""]) -> StepReport | None:
        """Back-propagate the loss and, at the end of a window, step; ``None`` inside a window."""

    def counters(self) -> tuple[int, int]:
        """``fwdbwd_pass_step`` and ``param_update_step``."""

    def averaged(self) -> int | None:
        """How often its running averages were updated; ``None`` where it has none that can be seen."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...
