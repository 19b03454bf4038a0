"""Which calls of a script are calls of a loss, and what becomes of one that went wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor, nn

from harness.pretence.imports import AfterImport
from harness.rehearsal.places import Places
from harness.watching.guard import Guard
from harness.watching.import_paths import ImportPaths
from harness.watching.keeper import Keeper
from harness.watching.loss_calls import Judged, LossCall, is_a_loss, judged
from harness.watching.measuring import MeasuringLittle
from harness.watching.options import WatchOptions


class LossWatch(MeasuringLittle):
    """Looks at calls of modules, and of functions that are named."""

    def __init__(self, places: Places, guard: Guard, options: WatchOptions) -> None:
        super().__init__(places, guard)
        self._options = options
        self.keeper = Keeper(options)
        self._paths = ImportPaths()
        self._named = set(options.losses)
        self._met: set[str] = set()
        self._is_named: dict[type, bool] = {}
        self._found_bad = 0

    def _tell_of_loss(self, seen: LossCall, wrong: Judged) -> None:
        raise NotImplementedError

    def _forward_begins(self, module: nn.Module) -> None:
        """Of the outermost module that trains."""
        raise NotImplementedError

    def _watch_named_functions(self, undo: ExitStack) -> None:
        modules: dict[str, list[str]] = {}
        for path in self._named:
            module, _, name = path.rpartition(":")
            if not module.endswith(".py"):
                modules.setdefault(module, []).append(name)

        def wrap(module: Any, patches: Any, names: list[str]) -> None:
            for name in names:
                owner, _, last = name.rpartition(".")
                holder = module
                for part in filter(None, owner.split(".")):
                    holder = getattr(holder, part, None)
                found = getattr(holder, last, None)
                if callable(found) and not isinstance(found, type):
                    path = f"{module.__name__}:{name}"
                    patches.put(holder, last, self._named_function(found, path))

        actions: dict[str, Any] = {module: partial(wrap, names=names) for module, names in modules.items()}
        finder = AfterImport(actions, self._patches)
        undo.callback(finder.remove)
        finder.install()

    def _named_function(self, stock: Callable[..., Any], path: str) -> Callable[..., Any]:
        @wraps(stock)
        def call(*inputs: Any, **named: Any) -> Any:
            if not self._guard.on or self._inside:
                return stock(*inputs, **named)
            self._met.add(path)
            return self._loss(partial(stock), stock, inputs, named, asked_for=True)

        return call

    def _call(self, stock: Callable[..., Any]) -> Callable[..., Any]:
        """Of every module: the outermost one that trains marks the windows; those outside of it may be losses."""
        guard = self._guard

        def call(module: nn.Module, *inputs: Any, **named: Any) -> Any:
            # First, and so all that torch.compile sees of this.
            if torch.compiler.is_compiling():
                return stock(module, *inputs, **named)
            if (self._depth and not self._named) or self._inside or not guard.on:
                return stock(module, *inputs, **named)
            asked_for = bool(self._named) and self._is_asked_for(type(module))
            if self._depth and not asked_for:
                return stock(module, *inputs, **named)
            own = partial(stock, module)
            if asked_for:
                return self._loss(own, module, inputs, named, asked_for)
            trains = any(p.requires_grad for p in module.parameters())
            if not trains and torch.is_grad_enabled():
                if self._named:
                    return own(*inputs, **named)
                return self._loss(own, module, inputs, named, asked_for)
            self._depth += 1
            try:
                if module.training and torch.is_grad_enabled():
                    self._guarded(self._forward_begins, module)
                return own(*inputs, **named)
            finally:
                self._depth -= 1

        # Not guarded as the others are: it is called hundreds of times a step.
        return call

    def _is_asked_for(self, kind: type) -> bool:
        if kind not in self._is_named:
            names = {f"{one.__module__}:{one.__qualname__}" for one in kind.__mro__}
            found = self._named & names
            if kind.__module__ == "__main__":
                scripts = {path for path in self._named if path.rpartition(":")[0].endswith(".py")}
                found |= {path for path in scripts if path.rpartition(":")[2] == kind.__qualname__}
            self._met |= found
            self._is_named[kind] = bool(found)
        return self._is_named[kind]

    def _loss(self, own: Callable[..., Any], subject: Any, inputs: tuple[Any, ...], named: Any, asked_for: bool) -> Any:
        before, seen = self._found_bad, self._guarded(LossCall.of, subject, inputs, named)
        found = own(*inputs, **named)
        # What a loss within this one did wrong is told of that one.
        if seen is not None and self._found_bad == before and is_a_loss(found, not asked_for):
            self._guarded(self._loss_came, seen, found)
        return found

    def _loss_came(self, seen: LossCall, found: Tensor) -> None:
        if not self._readings.is_away(found):
            self._loss_read(seen, float(found.detach()))
            return
        seen.let_go_of_graphs()
        seen.where = self._places.here()
        self._readings.take(found, partial(self._loss_read, seen))

    def _loss_read(self, seen: LossCall, value: float) -> None:
        is_fine = math.isfinite(value) and (self._options.low, self._options.high) == (None, None) and value >= 0.0
        if is_fine:
            return
        seen.value = value
        kinds = [f"{rule}: {seen.name}" for rule in ("loss-finite", "loss-range")]
        if not self.keeper.is_new(kinds[0 if not math.isfinite(value) else 1]):
            return
        inside, self._inside = self._inside, True
        try:
            wrong = judged(seen, self._options, self._paths)
        finally:
            self._inside = inside
        if wrong is None:
            if value < 0.0 and (self._options.low, self._options.high) == (None, None):
                self.keeper.told.add(kinds[1])  # it may be negative
            return
        self._found_bad += 1
        self._tell_of_loss(seen, wrong)
