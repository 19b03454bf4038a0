"""What a loss may keep of its calls, and what not: of the first for good, of the last until the next, one more."""

from __future__ import annotations

import pytest
from torch import Tensor

from gslrm.model.utils_losses import MaskedSsimLoss
from harness.cases.descriptors import LossCase, Mask, MaskKind, Perturbation, PerturbationKind
from harness.precision import precisions_named
from harness.properties.loss_instance import keeps_nothing
from harness.protocols import LossKind
from harness.subject_spec import SubjectSpec
from harness.subjects.adapted_loss import AdaptedLoss
from tests.harness.judging import judged_loss

_CASE = LossCase(16, 16, mask=Mask(MaskKind.FULL), perturbation=Perturbation(PerturbationKind.NOISE, 0.1))
_RIGHT = MaskedSsimLoss()


class _Keeping:
    """Keeps its values of these calls, from 0 on."""

    def __init__(self, *calls: int) -> None:
        self._calls, self._number = calls, 0
        self.kept: list[Tensor] = []

    def __call__(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        value: Tensor = _RIGHT(rendering, target, mask)
        if self._number in self._calls:
            self.kept.append(value.detach().clone())
        self._number += 1
        return value


@pytest.mark.parametrize(
    ("calls", "holds"),
    [
        ((0,), True),
        ((0, 1), True),
        ((0, 3), True),
        ((0, 2, 4, 5), True),
        ((4, 5), True),
        ((1, 2), False),
        ((2, 3), False),
        ((1, 3), False),
        ((0, 1, 2, 3, 4, 5), False),
    ],
)
def test_two_calls_in_the_middle_are_too_many(calls: tuple[int, ...], holds: bool) -> None:
    (float32,) = precisions_named(["float32"])
    loss = AdaptedLoss(SubjectSpec("keeping"), LossKind.MASKED, _Keeping(*calls))
    verdict = judged_loss(loss, keeps_nothing, float32, _CASE)
    assert verdict.holds is holds, verdict.message
    if not holds:
        counts = [int(number in calls) for number in range(6)]
        assert f"after 6 calls, {len(calls)} tensors that they made are still alive: {counts} of" in verdict.message
