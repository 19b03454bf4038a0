"""What can be put into a window of someone else's training, from outside."""

from __future__ import annotations

import copy
import enum
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from harness.errors import unknown_name

_EXPLODES = 1e20
_OVERFLOWS = 2.0**40
_HUGE = 2.0**20


class Fault(str, enum.Enum):
    """A bad window, by the name that ``--faults`` takes."""

    NAN_OUTPUT = "nan-output"  # the outermost module's output is NaN
    INF_OUTPUT = "inf-output"  # likewise inf
    EXPLODING_OUTPUT = "exploding-output"  # times 1e20
    OVERFLOWING_GRADIENT = "overflowing-gradient"  # of the output, times 2⁴⁰: beyond half precision
    NAN_GRADIENT = "nan-gradient"  # of all parameters of one group
    INF_GRADIENT = "inf-gradient"  # likewise inf
    HUGE_NORM = "huge-norm"  # finite gradients, times 2²⁰
    NO_GRADIENT = "no-gradient"  # losses that reach no parameter: in every micro-step, or in one
    NAN_INPUT = "nan-input"  # one number of the batch, where the outermost module takes floating numbers


ALIASES = {
    "nan-loss": Fault.NAN_OUTPUT,
    "inf-loss": Fault.INF_OUTPUT,
    "nan-grad": Fault.NAN_GRADIENT,
    "inf-grad": Fault.INF_GRADIENT,
    "no-grad": Fault.NO_GRADIENT,
    "nan-pixel": Fault.NAN_INPUT,
}
"""Other names that ``--faults`` takes: what the fault comes to, or what it is often called."""


def faults_named(names: Iterable[str]) -> tuple[Fault, ...]:
    """The faults of these names or :data:`ALIASES`, in order, each once; all for none.

    Raises:
        UsageError: there is no such fault.
    """
    chosen = []
    for name in names:
        try:
            chosen.append(ALIASES.get(name) or Fault(name))
        except ValueError:
            raise unknown_name("fault", name, [*(fault.value for fault in Fault), *ALIASES]) from None
    return tuple(dict.fromkeys(chosen) or Fault)


@dataclass
class Injection:
    """A fault that is put into one window.

    Attributes:
        forward, backward: the window's forward pass, or backward pass, that it is put into, counted from 0.
        everywhere: that no gradient is there goes into all backward passes.
        here: it goes into this process, and not into another that trains with it.
        done: it was put in.
        refused: why it could not be; empty where it was, or may still be.
    """

    fault: Fault
    forward: int = 0
    backward: int = 0
    everywhere: bool = True
    here: bool = True
    done: bool = False
    refused: str = ""

    def __post_init__(self) -> None:
        self.done = not self.here

    def into_inputs(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the outermost module takes, with the fault."""
        if self.fault is not Fault.NAN_INPUT or not self.here:
            return inputs, named
        changed = tree_map(_first_only(_with_nan, self), (inputs, named))
        if not self.done:
            self.refused = "the outermost module takes no floating numbers"
        return changed if self.done else (inputs, named)

    def into_output(self, output: Any) -> Any:
        """What the outermost module gives, with the fault."""
        change = {
            Fault.NAN_OUTPUT: lambda t: t * math.nan,
            Fault.INF_OUTPUT: lambda t: t * math.inf,
            Fault.EXPLODING_OUTPUT: lambda t: t * _EXPLODES,
            Fault.OVERFLOWING_GRADIENT: _with_steeper_gradient,
        }.get(self.fault)
        if change is None or not self.here:
            return output
        changed = _mapped(output, change, self)
        if not self.done:
            self.refused = "the outermost module gives no tensor that has a gradient"
        return changed

    def into_root(self, root: Tensor, backward: int) -> Tensor:
        """What is differentiated in the window's so-many-th backward pass, with the fault."""
        if self.fault is not Fault.NO_GRADIENT or not self.here or not (self.everywhere or backward == self.backward):
            return root
        self.done = True
        return root.detach().clone().requires_grad_()

    def into_gradients(self, optimizers: Iterable[torch.optim.Optimizer]) -> list[Any]:
        """Change the gradients that reach the parameters; the handles end it."""
        if not self.here:
            return []
        if self.fault is Fault.HUGE_NORM:
            groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        elif self.fault in (Fault.NAN_GRADIENT, Fault.INF_GRADIENT):
            groups = [optimizer.param_groups[-1] for optimizer in optimizers]
        else:
            return []
        value = math.nan if self.fault is Fault.NAN_GRADIENT else math.inf
        met: list[int] = []

        def change(gradient: Tensor, index: int) -> Tensor:
            met.append(index)
            self.done = True
            if self.fault is Fault.HUGE_NORM:
                return gradient * _HUGE
            # NaN goes into the one group that the backward pass meets first.
            if index != met[0]:
                return gradient
            return gradient * value if gradient.is_sparse else torch.full_like(gradient, value)

        return [
            p.register_hook(partial(change, index=index))
            for index, group in enumerate(groups)
            for p in group["params"]
            if p.requires_grad
        ]


def _mapped(output: Any, change: Callable[[Tensor], Tensor], injection: Injection, depth: int = 4) -> Any:
    """What a module gives, with its tensors changed: in lists, dictionaries and objects, which are copied."""

    def one(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            if not (leaf.is_floating_point() and leaf.requires_grad):
                return leaf
            injection.done = True
            return change(leaf)
        inside = getattr(leaf, "__dict__", None)
        if not depth or isinstance(leaf, (type, nn.Module)) or not isinstance(inside, dict):
            return leaf
        new = {name: _mapped(value, change, injection, depth - 1) for name, value in inside.items()}
        if all(new[name] is inside[name] for name in new):
            return leaf
        copied = copy.copy(leaf)
        for name, value in new.items():
            object.__setattr__(copied, name, value)  # it may be frozen
        return copied

    return tree_map(one, output)


def _with_steeper_gradient(tensor: Tensor) -> Tensor:
    # Another tensor, so that what hooks it hooks nothing else. No view: a change of one in place would lose the hook.
    tensor = tensor.clone()
    tensor.register_hook(lambda gradient: gradient * _OVERFLOWS)
    return tensor


def _with_nan(tensor: Tensor) -> Tensor:
    # A sum, so that its graph is kept where it has one.
    nan = torch.zeros_like(tensor, requires_grad=False)
    nan.view(-1)[0] = math.nan
    return tensor + nan


def _first_only(change: Callable[[Tensor], Tensor], injection: Injection) -> Callable[[Any], Any]:
    def one(leaf: Any) -> Any:
        if injection.done or not isinstance(leaf, Tensor) or isinstance(leaf, nn.Parameter):
            return leaf
        if not leaf.is_floating_point() or not leaf.numel():
            return leaf
        injection.done = True
        return change(leaf.contiguous())

    return one
