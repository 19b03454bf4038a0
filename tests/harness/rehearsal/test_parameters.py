"""What is asked of a training's parameters and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from harness.rehearsal.parameters import Parameters
from harness.rehearsal.readings import Readings

_BIG = 60_000.0  # two of these are beyond float16
_HUGE = 3e38  # and these beyond float32


def _parameters(*values: Tensor, gradients: bool = False) -> Parameters:
    """Of one optimizer, which hasn't stepped."""
    held = [nn.Parameter(torch.zeros_like(value) if gradients else value) for value in values]
    if gradients:
        for parameter, value in zip(held, values, strict=True):
            parameter.grad = value
    parameters = Parameters(Readings())
    parameters.index(torch.optim.SGD(held, lr=0.1))
    return parameters


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_number_that_is_not_finite_is_found(dtype: torch.dtype, bad: float) -> None:
    good, other = torch.ones(3, 4, dtype=dtype), torch.ones(5)
    assert _parameters(good, other).finite()
    assert _parameters(good, other, gradients=True).gradients_finite(0)
    spoilt = good.clone()
    spoilt[1, 2] = bad
    assert not _parameters(spoilt, other).finite()
    assert not _parameters(other, spoilt, gradients=True).gradients_finite(0)


@pytest.mark.parametrize(
    "numbers",
    [
        torch.full((40,), _BIG, dtype=torch.float16),
        torch.full((40,), _HUGE),
        torch.full((40,), 1e300, dtype=torch.float64),
        torch.tensor([1, 2]) * 1.0j,
    ],
    ids=["float16", "float32", "float64", "complex"],
)
def test_numbers_whose_sum_is_beyond_their_dtype_are_finite(numbers: Tensor) -> None:
    assert _parameters(numbers, torch.ones(2)).finite()


def test_what_an_optimizer_keeps_must_be_finite_too() -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([parameter])
    parameter.grad = torch.ones(3)
    optimizer.step()
    parameters = Parameters(Readings())
    parameters.index(optimizer)
    assert parameters.finite()
    optimizer.state[parameter]["exp_avg_sq"][1] = math.inf
    assert not parameters.finite()


def test_the_norm_is_of_all_gradients_and_in_float64() -> None:
    gradients = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]], dtype=torch.float64), torch.tensor([12.0]).half()]
    assert _parameters(*gradients, gradients=True).norm(0) == pytest.approx(13.0, rel=1e-12)
    huge = _parameters(torch.full((4,), _HUGE), gradients=True).norm(0)
    assert huge == pytest.approx(2 * _HUGE, rel=1e-6)
    assert _parameters(torch.tensor([3.0 + 4.0j]), gradients=True).norm(0) == pytest.approx(5.0)
    assert _parameters(torch.ones(2)).norm(0) is None


def test_a_sparse_gradient_counts_once() -> None:
    embedding = nn.Embedding(10, 2, sparse=True)
    embedding(torch.tensor([1, 1, 3])).sum().backward()
    parameters = Parameters(Readings())
    parameters.index(torch.optim.SparseAdam(embedding.parameters()))
    assert parameters.norm(0) == pytest.approx(math.sqrt(2 * 2.0**2 + 2 * 1.0))
    assert parameters.gradients_finite(0)


def test_what_an_optimizer_keeps_is_left_out_where_it_is_not_asked_for() -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    parameter.grad = torch.ones(3)
    optimizer.step()
    parameters = Parameters(Readings())
    parameters.index(optimizer)
    optimizer.state[parameter]["momentum_buffer"][0] = math.nan
    assert parameters.finite(states=False)
    with torch.no_grad():
        parameter[1] = math.nan
    assert not parameters.finite(states=False)


def test_a_parameter_moves_as_often_as_it_is_changed_and_by_whatever() -> None:
    held = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2))]
    parameters = Parameters(Readings())
    parameters.index(torch.optim.SGD(held, lr=0.1))
    assert parameters.moved() == [False]
    for _ in range(2):
        held[1].data[0] += 1.0
        assert parameters.moved() == [True]
        assert parameters.moved() == [False]
    for other in (torch.ones(3, dtype=torch.float64), torch.ones(4)):
        held[0].data = other
        assert parameters.moved() == [True]
        assert parameters.moved() == [False]
    held[0].data[0] = math.nan
    assert parameters.moved() == [True]
    assert parameters.moved() == [False]
