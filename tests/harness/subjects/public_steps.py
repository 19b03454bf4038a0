"""Training steps in the shapes that public code has, for the tests: written anew, each as its loop does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def recipe(loss: Tensor, optimizer: Any, scaler: Any, scheduler: Any, parameters: Any, last: bool) -> None:
    """PyTorch's own recipe; the schedule waits where the scaler skipped."""
    scaler.scale(loss).backward()
    if last:
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        before = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        if scaler.get_scale() >= before:
            scheduler.step()
        optimizer.zero_grad()


def advancing(loss: Tensor, optimizer: Any, scaler: Any, scheduler: Any, parameters: Any, last: bool) -> None:
    """As small language models are trained: the schedule advances whatever the scaler did."""
    scaler.scale(loss).backward()
    if last:
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        scheduler.step()


class NativeScaler:
    """As image classifiers are trained: an object with a scaler of its own."""

    def __init__(self) -> None:
        self._scaler = torch.amp.GradScaler("cuda")

    def __call__(
        self,
        loss: Tensor,
        optimizer: Any,
        clip_grad: float | None = None,
        parameters: Sequence[nn.Parameter] = (),
        create_graph: bool = False,
        need_update: bool = True,
    ) -> None:
        self._scaler.scale(loss).backward(create_graph=create_graph)
        if need_update:
            self._scaler.unscale_(optimizer)
            if clip_grad is not None:
                torch.nn.utils.clip_grad_value_(parameters, clip_grad)
            self._scaler.step(optimizer)
            self._scaler.update()


class Careful:
    """Drops what isn't finite, with a scaler or without, and what has no gradient."""

    def step(self, loss: Tensor, optimizer: Any, scaler: Any, scheduler: Any, last: bool) -> None:
        scaler.scale(loss).backward()
        if not last:
            return
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if gradients:
            scaler.unscale_(optimizer)
            finite = all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
            if finite:
                scaler.step(optimizer)
                scheduler.step()
            scaler.update()
        optimizer.zero_grad(set_to_none=False)


class Limited(Careful):
    """Drops a norm over 5, too, and looks at the loss of each micro-step."""

    def __init__(self) -> None:
        self._bad = False

    def step(self, loss: Tensor, optimizer: Any, scaler: Any, scheduler: Any, last: bool) -> None:
        self._bad |= not bool(torch.isfinite(loss))
        scaler.scale(loss).backward()
        if not last:
            return
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if gradients:
            scaler.unscale_(optimizer)
            norm = torch.linalg.vector_norm(torch.cat([gradient.flatten() for gradient in gradients]))
            if bool(norm <= 5.0) and not self._bad:
                scaler.step(optimizer)
                scheduler.step()
            scaler.update()
        self._bad = False
        optimizer.zero_grad()


def unscaled(loss: Tensor, optimizer: Any, scheduler: Any, last: bool) -> None:
    """Knows no scaler."""
    loss.backward()
    if last:
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()


def without_update(loss: Tensor, optimizer: Any, scaler: Any, last: bool) -> None:
    """Wrong: forgets ``update()`` where a gradient isn't finite."""
    scaler.scale(loss).backward()
    if last:
        scaler.unscale_(optimizer)
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
            scaler.step(optimizer)
            scaler.update()
        optimizer.zero_grad()


def keeps_gradients(loss: Tensor, optimizer: Any, scaler: Any, scheduler: Any, last: bool) -> None:
    """Wrong: gradients of a dropped window reach the next one."""
    scaler.scale(loss).backward()
    if last:
        before = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        if scaler.get_scale() >= before:
            scheduler.step()
            optimizer.zero_grad()


class OtherArguments:
    """No step that anyone could call with a result."""

    def optimizer_step(self, epoch: int, batch_index: int, optimizer: Any) -> None:
        optimizer.step()


class RaisesWhenBuilt:
    """Can't be constructed."""

    def __init__(self) -> None:
        raise ValueError("no data")

    def step(self, loss: Tensor, optimizer: Any) -> None:
        optimizer.step()


def guarded(loss: Tensor, optimizer: Any, scaler: Any, scheduler: Any, parameters: Any, last: bool) -> None:
    """PyTorch's recipe for whoever may have nothing to update, or no scaler: looks at the norm."""
    scaler.scale(loss).backward()
    if not last:
        return
    if any(p.grad is not None for p in parameters):
        scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        if bool(torch.isfinite(norm)):
            scaler.step(optimizer)
            scheduler.step()
        scaler.update()
    optimizer.zero_grad(set_to_none=True)


class ClearsFirst:
    """The same, with the gradients cleared when the next window begins."""

    def __init__(self) -> None:
        self._begins = True

    def step(self, loss: Tensor, optimizer: Any, scaler: Any, scheduler: Any, parameters: Any, last: bool) -> None:
        if self._begins:
            optimizer.zero_grad()
        self._begins = last
        scaler.scale(loss).backward()
        if last and any(p.grad is not None for p in parameters):
            scaler.unscale_(optimizer)
            norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            if bool(torch.isfinite(norm)):
                scaler.step(optimizer)
                scheduler.step()
            scaler.update()


class LooksAtTheLoss:
    """Spares the backward pass where the loss isn't finite, and drops that window."""

    def __init__(self) -> None:
        self._bad = False

    def step(self, loss: Tensor, optimizer: Any, scaler: Any, scheduler: Any, parameters: Any, last: bool) -> None:
        if bool(torch.isfinite(loss)):
            scaler.scale(loss).backward()
        else:
            self._bad = True
        if not last:
            return
        if any(p.grad is not None for p in parameters):
            scaler.unscale_(optimizer)
            norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            if bool(torch.isfinite(norm)) and not self._bad:
                scaler.step(optimizer)
                scheduler.step()
            scaler.update()
        self._bad = False
        optimizer.zero_grad()
