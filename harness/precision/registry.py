"""Each precision: which device, which input dtype, which autocast, and whether a step needs a gradient scaler."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch

from harness.errors import PrecisionError, unknown_name
from harness.precision.cuda_policy import emulation
from harness.precision.cuda_policy.emulation import emulate_cuda_autocast


@dataclass(frozen=True)
class Precision:
    """A context to run a subject in.

    Attributes:
        name: as ``--precision`` takes it.
        device: where the tensors live, ``cpu`` or ``cuda``.
        input_dtype: what a loss's images and mask are cast to first.
        autocast_dtype: the dtype of the autocast around the call, or ``None`` for no autocast.
        cuda_policy: CPU tensors under CUDA's autocast lists, emulated.
    """

    name: str
    device: str
    input_dtype: torch.dtype
    autocast_dtype: torch.dtype | None
    cuda_policy: bool = False

    @property
    def applies_to_steps(self) -> bool:
        """A step is fed losses, not images: a cast of the inputs says nothing that autocast doesn't."""
        return self.input_dtype == torch.float32

    @property
    def autocast_words(self) -> str:
        """The autocast as the reference tells it: whose, and to which dtype."""
        if self.autocast_dtype is None:
            return "none"
        whose = "CUDA's, emulated" if self.cuda_policy else {"cpu": "the CPU's", "cuda": "CUDA's"}[self.device]
        return f"{whose}, {str(self.autocast_dtype).removeprefix('torch.')}"

    @property
    def needs_scaler(self) -> bool:
        """Whether a training step in this precision scales its loss: float16 only."""
        return torch.float16 in (self.autocast_dtype, self.input_dtype)

    def with_half_inputs(self) -> Precision:
        """The same with images of its half dtype; of bfloat16 where it has none."""
        if self.input_dtype != torch.float32:
            return self
        return replace(self, input_dtype=self.autocast_dtype or torch.bfloat16)

    def installed(self) -> AbstractContextManager[None]:
        """What must surround all uses of :meth:`context`: the emulation, where this precision needs it."""
        if not self.cuda_policy:
            return contextlib.nullcontext()
        return _emulation()

    def context(self) -> AbstractContextManager[None]:
        """Autocast as this precision says; without, explicitly off."""
        return _autocast("cuda" if self.cuda_policy else self.device, self.autocast_dtype)


@contextlib.contextmanager
def _autocast(device: str, dtype: torch.dtype | None) -> Iterator[None]:
    with torch.autocast(device, dtype=dtype, enabled=dtype is not None):
        yield


@contextlib.contextmanager
def _emulation() -> Iterator[None]:
    # Installing takes milliseconds, so it is done once around many calls; each call then says torch.autocast("cuda").
    with emulate_cuda_autocast(enabled=False):
        yield


_F32, _F16, _BF16 = torch.float32, torch.float16, torch.bfloat16

PRECISIONS: tuple[Precision, ...] = (
    Precision("float32", "cpu", _F32, None),
    Precision("float16-inputs", "cpu", _F16, None),
    Precision("bfloat16-inputs", "cpu", _BF16, None),
    Precision("cpu-autocast-float16", "cpu", _F32, _F16),
    Precision("cpu-autocast-bfloat16", "cpu", _F32, _BF16),
    Precision("cuda-policy-float16", "cpu", _F32, _F16, cuda_policy=True),
    Precision("cuda-policy-bfloat16", "cpu", _F32, _BF16, cuda_policy=True),
    Precision("cuda-float32", "cuda", _F32, None),
    Precision("cuda-autocast-float16", "cuda", _F32, _F16),
    Precision("cuda-autocast-bfloat16", "cuda", _F32, _BF16),
)


@contextlib.contextmanager
def import_guard() -> Iterator[None]:
    """Surrounds a subject's import, whatever precision it is for.

    A subject may make an ``autocast("cuda")`` there, which without a GPU would switch itself off for good. Where there
    is no emulation, nothing can be done about that.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(PrecisionError):
            stack.enter_context(_emulation())
        yield


def unavailable_reason(precision: Precision) -> str | None:
    """Why this machine can't run the precision, or ``None`` if it can."""
    if precision.device == "cuda" and not torch.cuda.is_available():
        return "no CUDA GPU"
    return emulation.why_not() if precision.cuda_policy else None


def left_out() -> str | None:
    """What a check without ``--precision`` has to say of those that it leaves out, or ``None``.

    That there is no GPU goes without saying; that CUDA's autocast can't be emulated does not.
    """
    reasons = {p.name: reason for p in PRECISIONS if p.cuda_policy and (reason := unavailable_reason(p))}
    return f"{' and '.join(reasons)} left out: {next(iter(reasons.values()))}." if reasons else None


def precisions_named(names: Sequence[str]) -> tuple[Precision, ...]:
    """The precisions of these names, or all that this machine has.

    Raises:
        UsageError: an unknown name.
        PrecisionError: one that was asked for and this machine hasn't.
    """
    if not names:
        return tuple(p for p in PRECISIONS if unavailable_reason(p) is None)
    known = {p.name: p for p in PRECISIONS}
    chosen = []
    for name in names:
        if name not in known:
            raise unknown_name("precision", name, known)
        if reason := unavailable_reason(known[name]):
            raise PrecisionError(f"precision {name!r} can't run on this machine: {reason}.")
        chosen.append(known[name])
    return tuple(chosen)
