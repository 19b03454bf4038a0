"""Losses that break one promise each of what an instance does in the course of a training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gslrm.model.utils_losses import MaskedSsimLoss

_RIGHT = MaskedSsimLoss()


def _right(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    value: Tensor = _RIGHT(rendering, target, mask)
    return value


class break_first_call:
    """Makes its factor at the first call, in that call's dtype, and keeps it."""

    def __init__(self) -> None:
        self.third: Tensor | None = None

    def __call__(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        if self.third is None:
            self.third = torch.tensor(1.0 / 3.0).to(rendering.dtype)
        return (1.0 + 100.0 * (self.third.double() - 1.0 / 3.0)) * _right(rendering, target, mask).double()


class break_first_call_autocast:
    """Makes its window by a matrix product, which autocast rounds."""

    def __init__(self) -> None:
        self.window: Tensor | None = None

    def __call__(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        if self.window is None:
            taps = torch.tensor([[0.1], [0.2], [0.4], [0.2], [0.1]])
            self.window = (taps @ taps.T).double()
        return (1.0 + 100.0 * (self.window.sum() - 1.0)) * _right(rendering, target, mask)


class break_first_call_inference(nn.Module):
    """What is made in inference_mode can't be saved for a backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.one: Tensor | None = None

    def forward(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        if self.one is None:
            self.one = torch.ones((), dtype=torch.float64)
        return self.one * _right(rendering, target, mask).double()


class break_first_call_size:
    """Keeps the number of pixels of its first call."""

    def __init__(self) -> None:
        self.pixels = 0

    def __call__(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        self.pixels = self.pixels or rendering.numel()
        return _right(rendering, target, mask) * (rendering.numel() / self.pixels)


class break_calls_add_up:
    """Keeps a factor of the last call for the backward pass, where each call has its own."""

    def __call__(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        owner = self
        owner.factor = float(rendering.detach().float()[..., 0].mean()) + 1.0

        class Scaled(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, value: Tensor, factor: float) -> Tensor:
                ctx.factor = factor
                return value.clone()

            @staticmethod
            def backward(ctx: Any, upstream: Tensor) -> Any:
                return upstream * (owner.factor / ctx.factor), None

        value: Tensor = Scaled.apply(_right(rendering, target, mask), owner.factor)
        return value


class break_calls_add_up_in_place:
    """Writes every call's images over those of the last, which its graph still needs."""

    def __init__(self) -> None:
        self.buffer = torch.zeros(())

    def __call__(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        if self.buffer.shape != rendering.shape:
            self.buffer = torch.zeros_like(rendering, dtype=torch.float64)
        with torch.no_grad():
            self.buffer.copy_(target)
        return _right(rendering, target, mask) + 1e-9 * (rendering.double() * mask * self.buffer).sum()


class break_state_dict(nn.Module):
    """Registers its window at the first call, so that a new one knows no such name."""

    def forward(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        if not hasattr(self, "one"):
            self.register_buffer("one", torch.ones((), dtype=torch.float64, device=rendering.device))
        return self.get_buffer("one").clone() * _right(rendering, target, mask).double()


class break_state_dict_forgets(nn.Module):
    """A number that each is built with, and that is left out of what is saved."""

    built = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).built += 1
        self.factor = 1.0 + 0.01 * self.built

    def forward(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        return self.factor * _right(rendering, target, mask)


class break_casts(nn.Module):
    """Keeps its factor as a buffer, which a cast to half rounds for good."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("third", torch.tensor(1.0 / 3.0))

    def forward(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        third = self.get_buffer("third").double()
        return (1.0 + 100.0 * (third - 1.0 / 3.0)) * _right(rendering, target, mask).double()


class break_keeps_nothing:
    """A list of its values, as for a mean over the epoch, with their graphs."""

    def __init__(self) -> None:
        self.values: list[Tensor] = []

    def __call__(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        self.values.append(_right(rendering, target, mask))
        return self.values[-1]

    def __deepcopy__(self, memo: dict[int, Any]) -> break_keeps_nothing:
        return break_keeps_nothing()


class break_keeps_nothing_detached(break_keeps_nothing):
    """Without their graphs: a tensor for each call all the same."""

    def __call__(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        value = _right(rendering, target, mask)
        self.values.append(value.detach().clone())
        return value


class break_keeps_nothing_inputs(break_keeps_nothing):
    """The targets, by their identity, as a cache that never forgets."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[int, Tensor] = {}

    def __call__(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        self.known[id(target)] = target
        return _right(rendering, target, mask)

    def __deepcopy__(self, memo: dict[int, Any]) -> break_keeps_nothing_inputs:
        return break_keeps_nothing_inputs()


def break_side_effects_evaluation(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Writes into the rendering where no graph forbids it."""
    value = _right(rendering, target, mask)
    if not torch.is_grad_enabled():
        rendering.mul_(0.5)
    return value


def break_side_effects_requires(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Has the target take gradients from now on."""
    if torch.is_grad_enabled() and not target.is_inference():
        target.requires_grad_()
    return _right(rendering, target, mask)


def break_side_effects_dtype(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    torch.set_default_dtype(torch.float64)
    return _right(rendering, target, mask)


def break_side_effects_threads(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    torch.set_num_threads(torch.get_num_threads() + 1)
    return _right(rendering, target, mask)


def break_side_effects_deterministic(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    torch.use_deterministic_algorithms(True, warn_only=True)
    return _right(rendering, target, mask)


def break_side_effects_cudnn(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    torch.backends.cudnn.benchmark = True
    return _right(rendering, target, mask)


def break_side_effects_denormal(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    torch.set_flush_denormal(True)
    return _right(rendering, target, mask)


def break_side_effects_hooks_kept(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Offloads what is saved for backward, and goes on doing so."""
    torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor).__enter__()
    return _right(rendering, target, mask)


def break_side_effects_backward_hooks(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    torch.nn.modules.module.register_module_full_backward_pre_hook(lambda *_: None)
    return _right(rendering, target, mask)


def break_side_effects_floating_point(rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    np.seterr(all="raise")
    return _right(rendering, target, mask)


class RightModule(nn.Module):
    """No mutant: a window that is made lazily for each dtype and kept, a buffer that is not saved, the last value."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("a_half", torch.tensor(0.5), persistent=False)
        self.ones: dict[torch.dtype, Tensor] = {}
        self.last: Tensor | None = None

    def forward(self, rendering: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        with torch.inference_mode(False):
            one = self.ones.setdefault(rendering.dtype, torch.ones((), dtype=torch.float64))
        value: Tensor = 2.0 * self.get_buffer("a_half").double() * one * _right(rendering, target, mask).double()
        self.last = value.detach()
        return value
