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
    with pytest.raises(UsageError, match="did you mean 'huge-norm'"):
        faults_named(["huge-norms"])
