"""What half precision adds to a budget is of the size of its own rounding."""

from __future__ import annotations

import pytest
import torch

from harness.oracle.budget import RELATIVE, budget
from harness.precision import PRECISIONS


@pytest.mark.parametrize("precision", PRECISIONS, ids=lambda precision: precision.name)
def test_a_gradient_is_allowed_half_a_unit_in_the_last_place_beyond_float32_s_share(precision) -> None:
    allowed = budget(precision).gradient_relative - RELATIVE
    halves = {torch.float32: 0.0, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
    assert allowed == pytest.approx(halves[precision.input_dtype], rel=1e-9)
