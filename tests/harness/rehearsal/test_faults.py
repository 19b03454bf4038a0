"""What a fault does to what a module takes and gives."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from harness.errors import UsageError
from harness.rehearsal.faults import Fault, Injection, faults_named


@dataclass(frozen=True)
class Given:
    prediction: Tensor
    count: int


def test_a_nan_in_the_batch_leaves_the_graph_as_it_is() -> None:
    inner = torch.ones(2, 3, requires_grad=True)
    whole = torch.arange(4)
    injection = Injection(Fault.NAN_INPUT)
    (changed, numbers), named = injection.into_inputs((inner * 2, whole), {"second": torch.ones(1)})
    assert injection.done
    assert numbers is whole
    assert changed.isnan().sum() == 1
    assert not named["second"].isnan()  # one number is enough
    changed[:, 1:].sum().backward()
    assert inner.grad is not None
    # By name, where nothing is given by position.
    _, named = Injection(Fault.NAN_INPUT).into_inputs((), {"second": torch.ones(1)})
    assert named["second"].isnan()


def test_what_takes_no_floating_numbers_is_left() -> None:
    injection = Injection(Fault.NAN_INPUT)
    tokens = torch.arange(4)
    (same,), _ = injection.into_inputs((tokens,), {})
    assert same is tokens
    assert not injection.done
    assert injection.refused == "the outermost module takes no floating numbers"


def test_tensors_are_found_in_what_a_module_gives() -> None:
    leaf = torch.ones(2, requires_grad=True)
    own = Given(leaf * 1, 3)
    given = {"all": [own, leaf.detach()]}
    changed = Injection(Fault.NAN_OUTPUT).into_output(given)
    first, second = changed["all"]
    assert isinstance(first, Given)
    assert first.prediction.isnan().all()
    assert (first.count, second.isnan().any()) == (3, False)
    assert not own.prediction.isnan().any()  # the script's own object is as it was


def test_a_steeper_gradient_leaves_the_value() -> None:
    leaf = torch.ones(2, requires_grad=True)
    changed = Injection(Fault.OVERFLOWING_GRADIENT).into_output(leaf * 3)
    assert changed.tolist() == [3.0, 3.0]
    changed.sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.tolist() == [3 * 2.0**40] * 2
    leaf.grad = None
    changed = Injection(Fault.OVERFLOWING_GRADIENT).into_output(leaf.sum() * 3)
    changed /= 2  # in place, as a loss is divided by the number of micro-steps
    changed.backward()
    assert leaf.grad.tolist() == [1.5 * 2.0**40] * 2


def test_nan_goes_into_one_group() -> None:
    first, second = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizers = [torch.optim.SGD([p], lr=1.0) for p in (first, second)]
    injection = Injection(Fault.NAN_GRADIENT)
    handles = injection.into_gradients(optimizers)
    (first.sum() + second.sum()).backward()
    assert first.grad is not None
    assert second.grad is not None
    assert sorted(bool(p.grad.isnan().all()) for p in (first, second) if p.grad is not None) == [False, True]
    for handle in handles:
        handle.remove()


def test_names() -> None:
    assert faults_named([]) == tuple(Fault)
    assert faults_named(["huge-norm"]) == (Fault.HUGE_NORM,)
    assert faults_named(["nan-loss", "inf-grad", "no-grad"]) == (
        Fault.NAN_OUTPUT,
        Fault.INF_GRADIENT,
        Fault.NO_GRADIENT,
    )
    assert faults_named(["nan-loss", "nan-output"]) == (Fault.NAN_OUTPUT,)
    with pytest.raises(UsageError, match="did you mean 'huge-norm'"):
        faults_named(["huge-norms"])


def test_infinity_replaces_gradients_that_are_zero() -> None:
    weights = torch.nn.Parameter(torch.ones(2))
    Injection(Fault.INF_GRADIENT).into_gradients([torch.optim.SGD([weights], lr=1.0)])
    (weights * torch.tensor([0.0, 1.0])).sum().backward()
    assert weights.grad is not None
    assert weights.grad.tolist() == [float("inf")] * 2


def test_no_gradient_in_one_micro_step_or_in_all() -> None:
    leaf = torch.ones(1, requires_grad=True)
    root = leaf * 2
    one = Injection(Fault.NO_GRADIENT, backward=1, everywhere=False)
    assert one.into_root(root, 0) is root
    assert one.into_root(root, 1) is not root
    assert Injection(Fault.NO_GRADIENT, backward=1).into_root(root, 0) is not root


def test_a_fault_of_another_rank_leaves_all_as_it_is() -> None:
    weights = torch.nn.Parameter(torch.ones(2))
    optimizers = [torch.optim.SGD([weights], lr=1.0)]
    for fault in Fault:
        injection = Injection(fault, here=False)
        assert injection.done
        output = weights * 2
        assert injection.into_output(output) is output
        assert injection.into_root(output, 0) is output
        assert injection.into_inputs((output,), {})[0][0] is output
        assert injection.into_gradients(optimizers) == []
