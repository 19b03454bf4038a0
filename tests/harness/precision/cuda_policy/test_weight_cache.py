"""The weight cache: whatever stock autocast shows on the CPU, where both lists cast `mm`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.precision.cuda_policy.casting import THREAD
from harness.precision.cuda_policy.emulation import emulate_cuda_autocast
from tests.harness.rounding.traces import (
    BF16,
    F16,
    A,
    stock_cpu_autocast,
)

pytestmark = pytest.mark.usefixtures("leaves_no_trace")


def used_twice(w: Tensor) -> Any:
    return torch.mm(A, w), torch.mm(w, A)


def changed_between(w: Tensor) -> Any:
    first = torch.mm(w, A)
    with torch.no_grad():
        w.add_(1)
    return first, torch.mm(w, A)


def first_without_grad(w: Tensor) -> Any:
    with torch.no_grad():
        first = torch.mm(w, A)
        w.add_(1)
    return first, torch.mm(w, A)


def first_in_inference(w: Tensor) -> Any:
    with torch.inference_mode():
        torch.mm(w, A)
    with torch.no_grad():
        w.add_(1)
    return torch.mm(w, A)


def without_cache(w: Tensor) -> Any:
    with torch.autocast("cpu", dtype=BF16, cache_enabled=False):
        return changed_between(w)


def in_a_nested_region(w: Tensor) -> Any:
    first = torch.mm(w, A)
    with torch.no_grad():
        w.add_(1)
    with torch.autocast("cpu", dtype=BF16):
        return first, torch.mm(w, A)


def across_a_disabled_region(w: Tensor) -> Any:
    first = torch.mm(w, A)
    with torch.no_grad():
        w.add_(1)
    with torch.autocast("cpu", enabled=False):
        between = torch.mm(w, A)
    return first, between, torch.mm(w, A)


def cleared_between(w: Tensor) -> Any:
    first = torch.mm(w, A)
    torch.clear_autocast_cache()
    with torch.no_grad():
        w.add_(1)
    return first, torch.mm(w, A)


def view_of_a_weight(w: Tensor) -> Any:
    first = torch.mm(w[:], A)
    with torch.no_grad():
        w.add_(1)
    return first, torch.mm(w[:], A)


def leaf_that_is_a_view(w: Tensor) -> Any:
    v = torch.cat([A, A])[:4].requires_grad_()
    first = torch.mm(v, A)
    with torch.no_grad():
        v.add_(1)
    return first, torch.mm(v, A), torch.mm(w, A)


def not_a_leaf(w: Tensor) -> Any:
    v = w * 1
    first = torch.mm(v, A)
    with torch.no_grad():
        v.add_(1)
    return first, torch.mm(v, A)


def nested_in_another_dtype(w: Tensor) -> Any:
    torch.mm(w, A)
    with torch.autocast("cpu", dtype=F16):
        return torch.mm(w, A)


PROGRAMS = [
    used_twice,
    changed_between,
    first_without_grad,
    first_in_inference,
    without_cache,
    in_a_nested_region,
    across_a_disabled_region,
    cleared_between,
    view_of_a_weight,
    leaf_that_is_a_view,
    not_a_leaf,
    nested_in_another_dtype,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_weight_cache_as_in_stock_autocast(program: Any) -> None:
    def outcome(context: Any) -> Any:
        w = (A * 0.7).requires_grad_()
        with context(BF16):
            try:
                outs = program(w)
            except RuntimeError as e:
                return str(e)
        outs = outs if isinstance(outs, tuple) else (outs,)
        with_graph = [o.float().sum() for o in outs if o.requires_grad]
        if with_graph:  # up to torch 2.9, a weight first used without gradients keeps to that
            torch.stack(with_graph).sum().backward()
        return [(o.dtype, o.requires_grad, o.tolist()) for o in outs], None if w.grad is None else w.grad.tolist()

    assert outcome(emulate_cuda_autocast) == outcome(stock_cpu_autocast)


def test_weight_cache_ends_with_the_outermost_region() -> None:
    w = A.clone().requires_grad_()
    with emulate_cuda_autocast(BF16, enabled=False):
        with torch.autocast("cuda", dtype=BF16):
            torch.mm(w, A)
            assert len(THREAD.cache) == 1
            with torch.autocast("cuda", dtype=BF16):
                pass
            assert len(THREAD.cache) == 1
        assert len(THREAD.cache) == 0
    with emulate_cuda_autocast(BF16, cache_enabled=False):
        torch.mm(w, A)
        assert len(THREAD.cache) == 0
