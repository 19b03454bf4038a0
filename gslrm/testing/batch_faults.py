"""Faults put into real batches, at random but repeatably, to see that training survives them."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

import torch

from gslrm.data.views import ViewBatch


class Fault(str, enum.Enum):
    """What happens to a batch."""

    NAN_PIXELS = "nan pixels"
    EXPLODING_VIEW = "exploding view"  # one view's colours times 10⁴
    OVERFLOW = "overflow"  # colours near float32's largest: the squared error is infinite
    ALL_BACKGROUND = "all-background mask"
    ONE_PIXEL = "one-pixel mask"


@dataclass(frozen=True)
class FaultInjector:
    """Spoils a share of the passes.

    Attributes:
        rate: the share, in [0, 1].
        seed: the same seed spoils the same passes in the same way.
    """

    rate: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ValueError(f"the fault rate is {self.rate}; it must lie in [0, 1].")

    def __call__(self, batch: ViewBatch, pass_step: int) -> tuple[ViewBatch, str | None]:
        """The batch of this pass, spoilt or not, and the fault in words."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + pass_step) % 2**63)
        if float(torch.rand((), generator=generator)) >= self.rate:
            return batch, None
        kinds = tuple(Fault)
        fault = kinds[int(torch.randint(len(kinds), (), generator=generator))]
        return spoil(batch, fault), fault.value


def spoil(batch: ViewBatch, fault: Fault) -> ViewBatch:
    """The batch with the fault in its first view; the original is left as it is."""
    images = batch.images.clone()
    view = images[:, 0]
    middle = images.shape[-1] // 2
    if fault is Fault.NAN_PIXELS:
        view[:, :3, middle, middle] = float("nan")
        if view.shape[1] == 4:
            view[:, 3, middle, middle] = 1.0
    elif fault is Fault.EXPLODING_VIEW:
        view[:, :3] *= 1e4
    elif fault is Fault.OVERFLOW:
        view[:, :3] = 1e30
    elif images.shape[2] == 4:
        images[:, :, 3] = 0.0
        if fault is Fault.ONE_PIXEL:
            images[:, :, 3, middle, middle] = 1.0
    return replace(batch, images=images)
