"""How accurate the project's own loss is in float32, on masked near-identical pairs."""

from __future__ import annotations

import statistics

from hypothesis import given, settings

from gslrm.model.utils_losses import MaskedSsimLoss
from harness.cases.descriptors import LossCase, MaskKind
from harness.cases.strategies import DRAWN_MASKS, NEAR_IDENTICAL, loss_cases
from harness.cases.tensors import build_pair
from harness.config import Settings
from harness.engine.plan import Task
from harness.engine.run import TaskRunner
from harness.oracle.masked_ssim import masked_ssim_truth
from harness.subject_spec import SubjectKind


def test_the_median_error_is_at_most_a_millionth() -> None:
    values, gradients = [], []
    loss = MaskedSsimLoss()

    @settings(max_examples=300)
    @given(loss_cases(perturbations=NEAR_IDENTICAL, masks=[k for k in DRAWN_MASKS if k is not MaskKind.EMPTY]))
    def measure(case: LossCase) -> None:
        pair = build_pair(case)
        truth = masked_ssim_truth(pair)
        if truth.value == 0.0:
            return
        rendering = pair.rendering.requires_grad_()
        value = loss(rendering, pair.target, pair.mask)
        value.backward()
        assert rendering.grad is not None
        values.append(abs(value.item() - truth.value) / truth.value)
        gradients.append(float((rendering.grad.double() - truth.gradient).norm() / truth.gradient.norm()))

    measure()
    assert len(values) >= 200
    assert statistics.median(values) <= 1e-6
    assert statistics.median(gradients) <= 1e-6
    assert max(values) <= 1e-3
    assert max(gradients) <= 1e-3


def test_the_worst_that_the_search_finds_is_at_most_a_thousandth() -> None:
    session = TaskRunner(Settings(loss="gslrm.model.utils_losses:MaskedSsimLoss", max_examples=300))
    for name in ("accuracy", "gradient-accuracy"):
        result = session.run(Task(SubjectKind.LOSS, name, "float32"), lambda _: None)
        assert result.worst is not None
        assert result.worst <= 1e-3
