"""The tensors of cases and their truths, kept while other properties and precisions are judged on the same cases."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from harness.cases.descriptors import LossCase
from harness.cases.image_folder import ImageFolder
from harness.cases.loss_inputs import LossInputs
from harness.cases.points import build_points
from harness.cases.tensors import build_pair
from harness.oracle.perceptual import Convolutions
from harness.oracle.truth import Truth
from harness.protocols import LossKind

# Numbers kept, in float32 and, of each dtype's truth, in float64: some 250 MB.
_MOST_NUMBERS = 2**24


@dataclass
class _Known:
    built: LossInputs
    flatness: dict[bool, float] = field(default_factory=dict)
    truths: dict[tuple[str, torch.dtype], Truth] = field(default_factory=dict)


class KnownInputs:
    """What was built for one kind of loss and one definition; of what is older than the limit, nothing.

    Args:
        kind: what its cases are built for.
        folder: with the user's own pictures.
    """

    def __init__(self, kind: LossKind, folder: ImageFolder | None = None) -> None:
        self._build = build_points if kind is LossKind.POINTS else build_pair
        self._folder = folder
        self._known: OrderedDict[LossCase, _Known] = OrderedDict()
        self._numbers = 0
        self._marks: list[object] = []
        self._exact: Convolutions = ()

    def built(self, case: LossCase) -> LossInputs:
        """The case's tensors, float32 on the CPU, as copies: a subject may write into what it is given.

        Raises:
            UsageError: as :func:`harness.cases.tensors.build_pair`.
        """
        return self._kept(case).built.mapped(torch.clone)

    def truth(self, case: LossCase, device: str, dtype: torch.dtype, of: Callable[[LossInputs], Truth]) -> Truth:
        """What the oracle ``of`` says of the case's tensors in this dtype, asked once."""
        known, key = self._kept(case), (device, dtype)
        if key not in known.truths:
            known.truths[key] = of(known.built.mapped(torch.clone).cast(device, dtype))
        return known.truths[key]

    def flatness(self, case: LossCase, rounds_alone: bool, of: Callable[[LossInputs], float]) -> float:
        """What ``of`` says of the case's tensors, float32 on the CPU, asked once of each kind."""
        known = self._kept(case)
        if rounds_alone not in known.flatness:
            known.flatness[rounds_alone] = of(known.built)
        return known.flatness[rounds_alone]

    def exact(self, convolutions: Convolutions | None) -> Convolutions | None:
        """A network's kernels and biases in float64, converted once while they stay as they are: to do so takes half as
        long as a truth.
        """
        if convolutions is None:
            return None
        marks: list[object] = [(w.data_ptr(), w._version, w.dtype, w.shape) for layer in convolutions for w in layer]
        if marks != self._marks:
            self._marks = marks
            self._exact = [(kernel.detach().double(), bias.detach().double()) for kernel, bias in convolutions]
        return self._exact

    def _kept(self, case: LossCase) -> _Known:
        if case in self._known:
            self._known.move_to_end(case)
            return self._known[case]
        known = _Known(self._build(case, self._folder))
        self._known[case] = known
        self._numbers += _numbers(case)
        while self._numbers > _MOST_NUMBERS and len(self._known) > 1:
            oldest, _ = self._known.popitem(last=False)
            self._numbers -= _numbers(oldest)
        return known


def _numbers(case: LossCase) -> int:
    """As many as its images have, three times over, and in float64 for two dtypes."""
    return 3 * case.images * case.height * case.width * 7
