"""Products of half-precision tensors by float32's kernels: the same numbers, each rounded once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.pretence.half_products import HalfProducts, slow_halves, worth_while

_EPSILON = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
# Many enough that a sum which is rounded at each of its terms differs from one that is rounded once.
_TERMS = 2048


def _numbers(*shape: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).to(dtype).requires_grad_()


_PRODUCTS: dict[str, tuple[Callable[..., Tensor], tuple[tuple[int, ...], ...]]] = {
    "mm": (torch.mm, ((3, _TERMS), (_TERMS, 4))),
    "linear": (F.linear, ((2, 3, _TERMS), (5, _TERMS), (5,))),
    "bmm": (torch.bmm, ((2, 3, _TERMS), (2, _TERMS, 4))),
    "conv2d": (lambda x, w, b: F.conv2d(x, w, b, padding=1), ((2, 64, 9, 9), (8, 64, 3, 3), (8,))),
    "conv1d without bias": (F.conv1d, ((2, 64, 20), (8, 64, 3))),
    "transposed": (lambda x, w: F.conv_transpose2d(x, w, stride=2), ((1, 64, 6, 6), (64, 8, 2, 2))),
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", list(_PRODUCTS))
def test_values_and_gradients_are_those_of_float64_rounded_once(name: str, dtype: torch.dtype) -> None:
    product, shapes = _PRODUCTS[name]
    inputs = [_numbers(*shape, dtype=dtype) for shape in shapes]
    with HalfProducts({dtype}):
        found = product(*inputs)
        gradients = torch.autograd.grad(found, inputs, torch.ones_like(found))
    wide = [each.detach().double().requires_grad_() for each in inputs]
    right = product(*wide)
    rights = torch.autograd.grad(right, wide, torch.ones_like(right))
    for one, other in zip((found, *gradients), (right, *rights), strict=True):
        assert one.dtype is dtype
        # Half a unit in the last place, and what float32's own sums leave.
        allowed = _EPSILON[dtype] * other.abs() + 1e-5 * other.abs().max()
        assert bool(((one.double() - other).abs() <= allowed).all())


def test_what_overflows_the_half_still_does() -> None:
    x = torch.full((1, 4096), 16.0, dtype=torch.float16)
    with HalfProducts({torch.float16}):
        assert torch.mm(x, x.T * 16.0).isinf().all()


def test_other_dtypes_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    halves = [_numbers(4, 4, dtype=dtype).detach() for dtype in (torch.bfloat16, torch.float16)]
    widened: list[torch.dtype] = []
    stock = torch.Tensor.float
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: widened.append(tensor.dtype) or stock(tensor))
    with HalfProducts({torch.float16}):
        for numbers in (*halves, torch.ones(4, 4), torch.ones(4, 4, dtype=torch.int64)):
            torch.mm(numbers, numbers)
        halves[1] + halves[1]
    assert widened == [torch.float16] * 2


@pytest.mark.parametrize(
    ("width", "autocast_to", "dtype", "steps_in"),
    [
        (600, {torch.float16}, torch.float32, True),
        (600, set(), torch.float16, True),
        (600, set(), torch.float32, False),
        (30, {torch.float16}, torch.float32, False),
    ],
    ids=["autocast", "its own", "float32", "small"],
)
def test_only_large_models_in_a_slow_half_are_worth_it(
    width: int, autocast_to: set[torch.dtype], dtype: torch.dtype, steps_in: bool
) -> None:
    model = nn.Linear(width, width).to(dtype)
    assert bool(worth_while(model, autocast_to)) is steps_in


def test_float16_is_slow_everywhere() -> None:
    assert torch.float16 in slow_halves()
    assert torch.float32 not in slow_halves()
