"""Who takes part: the loss at hand, its variants, and the peers that are installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from harness.errors import SubjectError, UsageError
from harness.files import one_line
from harness.protocols import LossKind
from harness.subject_spec import AUTO_TRUTH, SubjectSpec
from harness.subjects.adapted_loss import AdaptedLoss
from harness.subjects.loss import load_loss

BASELINE = "pytorch-msssim"
"""Whose time all others are told as multiples of."""


@dataclass(frozen=True)
class Contender:
    """One of those compared.

    Attributes:
        name: as tables tell it.
        spec: the subject.
        compiled: through ``torch.compile``.
    """

    name: str
    spec: SubjectSpec
    compiled: bool = False


def _peer(name: str, spec: str, compiled: bool = False, **how: Any) -> Contender:
    return Contender(name, SubjectSpec(spec, truth=AUTO_TRUTH, **how), compiled)


_MSSSIM: dict[str, Any] = {"similarity": True, "arguments": {"data_range": 1.0}}
PEERS = (
    _peer(BASELINE, "pytorch_msssim:ssim", **_MSSSIM),
    _peer(f"{BASELINE}, compiled", "pytorch_msssim:ssim", compiled=True, **_MSSSIM),
    _peer(
        "torchmetrics",
        "torchmetrics.functional:structural_similarity_index_measure",
        similarity=True,
        arguments={"data_range": 1.0},
    ),
    _peer("kornia", "kornia.losses:ssim_loss", call="f(x, y, 11)"),
    _peer("piq", "piq:SSIMLoss"),
    _peer("fused-ssim", "fused_ssim:fused_ssim", similarity=True),
)
"""Public SSIM losses, each called as its documentation says. Some are other definitions: other padding, other means."""


def variants(loss: SubjectSpec, varied: Sequence[str]) -> tuple[Contender, ...]:
    """The loss itself, or it once for each ``NAME=VALUE``, constructed with that argument too.

    Raises:
        UsageError: one has no ``=``.
    """
    short = loss.spec.rpartition(":")[2]
    if not varied:
        return (Contender(short, loss),)
    made = []
    for text in varied:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--variant takes NAME=VALUE, an argument of the loss' constructor, not {text!r}.")
        arguments: Mapping[str, Any] = {**loss.arguments, name: value}
        made.append(Contender(f"{short}, {text}", replace(loss, arguments=arguments)))
    return tuple(made)


@dataclass(frozen=True)
class Loaded:
    """A contender, loaded."""

    contender: Contender
    loss: AdaptedLoss


def loaded(contenders: Sequence[Contender]) -> tuple[list[Loaded], dict[str, str]]:
    """Those that can take part, and of the others by name why not."""
    ready, left_out = [], {}
    for contender in contenders:
        try:
            loss = load_loss(contender.spec)
        except SubjectError as error:
            left_out[contender.name] = _why(error)
            continue
        if loss.kind is LossKind.POINTS:
            left_out[contender.name] = "it is a loss of points, not of images"
            continue
        if contender.compiled:
            loss = replace(loss, function=torch.compile(loss.function, dynamic=False))
        ready.append(Loaded(contender, loss))
    return ready, left_out


def _why(error: SubjectError) -> str:
    cause: BaseException | None = error
    for cause in _causes(error):
        if isinstance(cause, ModuleNotFoundError):
            return f"{cause.name} is not installed"
    return one_line(str(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
