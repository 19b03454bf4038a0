"""The tensors of cases, their truths and what the subject made of them, kept while other properties and precisions are
judged on the same cases.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.cases.descriptors import LossCase
from harness.cases.image_folder import ImageFolder
from harness.cases.loss_inputs import LossInputs
from harness.cases.points import build_points
from harness.cases.tensors import build_pair
from harness.oracle.perceptual import Convolutions
from harness.oracle.truth import Truth
from harness.protocols import LossKind
from harness.trials.evaluation import Evaluation

# Kept, of images and gradients.
_MOST_BYTES = 2**28


@dataclass
class _Known:
    built: LossInputs
    flatness: dict[bool, float] = field(default_factory=dict)
    truths: dict[tuple[str, torch.dtype], Truth] = field(default_factory=dict)
    evaluations: dict[str, Evaluation] = field(default_factory=dict)


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
        self._bytes = 0
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
            self._make_room(_bytes_of_truth(known))
        return known.truths[key]

    def evaluation(self, case: LossCase, precision: str, of: Callable[[], Evaluation]) -> Evaluation:
        """What the subject gave of the case under this precision, run once."""
        known = self._kept(case)
        if precision not in known.evaluations:
            found = of()
            known.evaluations[precision] = found
            self._make_room(_bytes([found.gradient]))
        return known.evaluations[precision]

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
        self._make_room(_bytes(known.built.tensors()))
        return known

    def _make_room(self, kept: int) -> None:
        """For so many bytes, kept from now on: where that is too much, what is oldest is let go."""
        self._bytes += kept
        while self._bytes > _MOST_BYTES and len(self._known) > 1:
            _, oldest = self._known.popitem(last=False)
            found = (evaluation.gradient for evaluation in oldest.evaluations.values())
            self._bytes -= _bytes((*oldest.built.tensors(), *found)) + len(oldest.truths) * _bytes_of_truth(oldest)


def _bytes_of_truth(known: _Known) -> int:
    """Of its gradient, or of the graph that waits to give it: both images, as they are and composited, and two terms of
    every window.
    """
    return 6 * 8 * known.built.tensors()[0].numel()


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
