"""Watches a process train, from outside: torch's own entry points are wrapped, and nothing of the script is touched."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from harness.pretence import compiling
from harness.pretence.half_products import HalfProducts, worth_while
from harness.pretence.patches import Patches
from harness.rehearsal.parameters import scaler_in
from harness.rehearsal.places import Places
from harness.rehearsal.record import Did
from harness.rehearsal.windows import Director, Windows


class Observer(Windows):
    """Records a :class:`Run`; use as a context manager around the script.

    Attributes:
        eager: ``torch.compile`` compiles nothing meanwhile.
    """

    eager = True

    def __init__(self, places: Places, director: Director, half: str = "", thorough: bool = False) -> None:
        super().__init__(places, director, half, thorough)
        self._patches = Patches()
        self._handles: list[Any] = []
        self._depth = 0
        self._inside = False
        # Of optimizers whose step a scaler is about to make.
        self._norms: dict[int, float | Tensor | None] = {}
        self._products_asked: object = None
        self._slow: frozenset[torch.dtype] = frozenset()

    def __enter__(self) -> Observer:
        patch = self._patches.wrap
        if self.eager:
            # What is compiled would run past whatever is patched.
            compiling.install(self._patches)
        patch(nn.Module, "__call__", self._call)
        patch(torch.autograd, "backward", self._backward)
        for name in ("clip_grad_norm_", "clip_grad_value_"):
            for module in (nn.utils, nn.utils.clip_grad):
                patch(module, name, self._clip)
        scaler = torch.amp.GradScaler
        patch(scaler, "scale", self._scale)
        patch(scaler, "unscale_", self._unscale)
        patch(scaler, "step", self._scaler_step)
        patch(scaler, "update", self._update)
        patch(torch.optim.Optimizer, "zero_grad", self._zero_grad)
        self._handles.append(register_optimizer_step_pre_hook(self._optimizer_step))
        for schedule in _with_subclasses(torch.optim.lr_scheduler.LRScheduler):
            if "step" in vars(schedule):
                patch(schedule, "step", self._schedule)
        patch(torch, "save", self._save)
        patch(torch, "load", self._load)
        self._halves.install(self._patches)
        return self

    def __exit__(self, *_: object) -> None:
        self._patches.restore()
        for handle in [*self._handles, *self._hooks]:
            handle.remove()

    # What is wrapped. Within a call that is recorded, the calls that it makes itself are not.

    def _call(self, stock: Callable[..., Any]) -> Callable[..., Any]:
        def call(module: nn.Module, *inputs: Any, **named: Any) -> Any:
            # A loss without parameters is called as a module too, and is no model.
            # Nor is what a checkpoint runs again in the backward pass a forward pass of the outermost module.
            if self._depth or self._inside or not _has_parameters(module):
                return stock(module, *inputs, **named)
            self._depth += 1
            try:
                if not (module.training and torch.is_grad_enabled()):
                    return stock(module, *inputs, **named)
                return self._forward(stock, module, inputs, named)
            finally:
                self._depth -= 1

        return call

    def _forward(self, stock: Callable[..., Any], module: nn.Module, inputs: Any, named: dict[str, Any]) -> Any:
        if self._window_is_full():
            self._count()
            self._close()
            self._begin()
        self._model = module
        self._state_at_start()
        injection, index = self._injection, self._window.forwards
        here = injection is not None and index == injection.forward
        if injection is not None and here:
            inputs, named = injection.into_inputs(inputs, named)
        with self._products():
            output = stock(module, *inputs, **named)
        self._window.forwards += 1
        self._note(Did.FORWARD)
        return injection.into_output(output) if injection is not None and here else output

    def _backward(self, stock: Callable[..., Any]) -> Callable[..., Any]:
        def backward(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return stock(*args, **kwargs)
            given = _given(stock, args, kwargs)
            if not self._window.backwards:
                self._measure("stale", self._parameters.have_gradients())
            injection = self._injection
            if injection is not None and isinstance(given["tensors"], Tensor):
                given["tensors"] = injection.into_root(given["tensors"], self._window.backwards)
                if self._window.backwards == injection.backward:
                    self._hooks += injection.into_gradients(self._parameters.optimizers)
            value = self._loss_value(given["tensors"])
            self._window.backwards += 1
            self._note(Did.BACKWARD, value=value)
            with self._products():
                return self._within(stock, **given)

        return backward

    def _products(self) -> AbstractContextManager[Any]:
        """In which products in a half precision that this processor is slow at take no longer than in float32."""
        if self._model is None:
            return nullcontext()
        # To count a model's numbers at every pass would cost more than all else here.
        asked = id(self._model), frozenset(self._halves.given), next(self._model.parameters()).dtype
        if asked != self._products_asked:
            self._products_asked, self._slow = asked, worth_while(self._model, self._halves.given)
        return HalfProducts(self._slow) if self._slow else nullcontext()

    def _clip(self, stock: Callable[..., Any]) -> Callable[..., Any]:
        by_norm = "norm" in stock.__name__

        def clip(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return stock(*args, **kwargs)
            given = _given(stock, args, kwargs)
            parameters = given["parameters"]
            given["parameters"] = parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
            optimizer = self._parameters.whose(parameters)
            scaled = self._scaler is not None and not any(
                call.optimizer == optimizer for call in self._window.of(Did.UNSCALE)
            )
            found = self._within(stock, **given)
            norm = self._number(found) if by_norm else None
            self._note(
                Did.CLIP, optimizer, norm, limit=float(given["max_norm" if by_norm else "clip_value"]),
                finite=norm is None or self._is_finite(norm), scaled=scaled, by="norm" if by_norm else "value",
            )  # fmt: skip
            return found

        return clip

    def _scale(self, stock: Callable[..., Any]) -> Callable[..., Any]:
        def scale(scaler: Any, *args: Any, **kwargs: Any) -> Any:
            self._use(scaler)
            if not self._inside and scaler.is_enabled():
                self._note(Did.SCALE)
                self._state_at_scale(scaler)
            return self._within(stock, scaler, *args, **kwargs)

        return scale

    def _unscale(self, stock: Callable[..., Any]) -> Callable[..., Any]:
        def unscale(scaler: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._inside and scaler.is_enabled():
                optimizer = _given(stock, (scaler, *args), kwargs)["optimizer"]
                self._note(Did.UNSCALE, self._parameters.index(optimizer))
            return self._within(stock, scaler, *args, **kwargs)

        return unscale

    def _scaler_step(self, stock: Callable[..., Any]) -> Callable[..., Any]:
        def step(scaler: Any, *args: Any, **kwargs: Any) -> Any:
            self._use(scaler)
            if scaler.is_enabled() and not self._inside:
                index = self._parameters.index(_given(stock, (scaler, *args), kwargs)["optimizer"])
                self._window.rates = self._parameters.rates()
                self._state_at_step(index)
                self._note(Did.SCALER_STEP, index, finite=self._gradients_finite(index))
            # The optimizer's own step within it is recorded too, where it is called at all.
            try:
                return stock(scaler, *args, **kwargs)
            finally:
                self._norms.clear()

        return step

    def _gradients_finite(self, index: int) -> bool | Tensor | None:
        """Whether an optimizer's gradients are, on their way through the scaler's step; ``None`` where it has none.

        Unscaled already, they have the norm that they will have in the optimizer's step.
        """
        if not any(call.optimizer == index for call in self._window.of(Did.UNSCALE)):
            return self._parameters.gradients_finite(index)
        norm = self._norms[index] = self._parameters.norm(index)
        if norm is None or isinstance(norm, Tensor):
            return None if norm is None else norm.isfinite()
        return math.isfinite(norm) or self._parameters.gradients_finite(index)

    def _update(self, stock: Callable[..., Any]) -> Callable[..., Any]:
        def update(scaler: Any, *args: Any, **kwargs: Any) -> Any:
            found = stock(scaler, *args, **kwargs)
            if scaler.is_enabled():
                self._note(Did.UPDATE, value=self._scale_of(scaler))
            return found

        return update

    def _optimizer_step(self, optimizer: Any, *_: Any) -> None:
        index = self._parameters.index(optimizer)
        self._window.rates = self._parameters.rates()
        self._state_at_step(index)
        norm = self._norms[index] if index in self._norms else self._parameters.norm(index)
        self._note(Did.OPTIMIZER_STEP, index, norm, finite=None if norm is None else self._is_finite(norm))

    def _zero_grad(self, stock: Callable[..., Any]) -> Callable[..., Any]:
        def zero_grad(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            self._note(Did.ZERO_GRAD)
            return stock(optimizer, *args, **kwargs)

        return zero_grad

    def _schedule(self, stock: Callable[..., Any]) -> Callable[..., Any]:
        def step(schedule: Any, *args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return stock(schedule, *args, **kwargs)
            found = self._within(stock, schedule, *args, **kwargs)
            if self._window.calls:  # not the step that its constructor makes
                self._note(Did.SCHEDULE, self._parameters.index(schedule.optimizer))
            return found

        return step

    def _save(self, stock: Callable[..., Any]) -> Callable[..., Any]:
        def save(*args: Any, **kwargs: Any) -> Any:
            given = _given(stock, args, kwargs)
            optimizer, scaler = scaler_in(given["obj"])
            self._note(Did.SAVE, saved_optimizer=optimizer, saved_scaler=scaler, file=_path_of(given["f"]))
            self._state_at_save()
            return stock(*args, **kwargs) if self._director.keeps_saves() else None

        return save

    def _load(self, stock: Callable[..., Any]) -> Callable[..., Any]:
        def load(*args: Any, **kwargs: Any) -> Any:
            self.run.loads.append((_path_of(_given(stock, args, kwargs)["f"]), self._places.here()))
            return stock(*args, **kwargs)

        return load

    # What is measured: a number, or the tensor of a device that holds it.

    def _loss_value(self, root: Any) -> float | Tensor | None:
        """What is differentiated, the scale divided out; ``None`` for what is no single number."""
        value = self._number(root)
        if value is not None and self._scaler is not None and self._window.of(Did.SCALE):
            scale = self._scale_of(self._scaler)
            value = value / scale if isinstance(value, Tensor) else value / float(scale)
        return value

    def _number(self, found: Any) -> float | Tensor | None:
        if not isinstance(found, Tensor) or found.numel() != 1:
            return None
        return found.detach() if self._readings.is_away(found) else float(found.detach())

    def _is_finite(self, norm: float | Tensor) -> bool | None:
        """``None`` where it is told once the norm has come."""
        return None if isinstance(norm, Tensor) else math.isfinite(norm)

    def _within(self, stock: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        outer, self._inside = self._inside, True
        try:
            return stock(*args, **kwargs)
        finally:
            self._inside = outer

    def _use(self, scaler: Any) -> None:
        if scaler.is_enabled():
            self._scaler, self.run.scaler = scaler, True


def _path_of(file: Any) -> str:
    """Of a path or an open file; empty for one in memory."""
    name = file if isinstance(file, (str, os.PathLike)) else getattr(file, "name", "")
    return os.path.realpath(os.fsdecode(name)) if isinstance(name, (str, bytes, os.PathLike)) and name else ""


@lru_cache(maxsize=64)
def _signature(stock: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(stock)


def _given(stock: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """What a function is given, by its parameters' names."""
    bound = _signature(inspect.unwrap(stock)).bind(*args, **kwargs)
    return dict(bound.arguments)


def _with_subclasses(schedule: type[Any]) -> list[type[Any]]:
    found: list[type[Any]] = [schedule]
    subclass: type[Any]
    for subclass in schedule.__subclasses__():
        found += _with_subclasses(subclass)
    return found


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
