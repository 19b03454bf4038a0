"""Wrappers that can't change what a script does: whatever goes wrong in them, the script's own call is made, once."""

from __future__ import annotations

import _thread
from collections.abc import Callable, Iterator
from typing import Any

import torch

from harness.pretence.patches import Patches


class Guard:
    """Whether watching is on, for the thread that entered it.

    Args:
        failed: told once of the first error of the watching itself, which ends it.
    """

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed = failed
        self._thread: int | None = None

    def start(self) -> None:
        """In this thread."""
        self._thread = _thread.get_ident()

    def stop(self) -> None:
        """For good."""
        self._thread = None

    @property
    def on(self) -> bool:
        """Whether this call is to be looked at. What ``torch.compile`` traces is not."""
        return self._thread == _thread.get_ident() and not torch.compiler.is_compiling()

    def fail(self, error: Exception) -> None:
        """The watching itself failed: end it."""
        if self._thread is not None:
            self.stop()
            self._failed(error)


class GuardedPatches(Patches):
    """Replaces functions by wrappers that make the script's own call as it was made, whatever the wrapper does.

    A wrapper that calls ``stock`` gets the call's result, or its exception, with the script's own arguments; one that
    raises something itself ends the watching.
    """

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self._guard = guard

    def wrap(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """As :meth:`Patches.wrap`; what wraps ``__call__`` guards itself, as it is called hundreds of times a step."""
        if name == "__call__":
            super().wrap(owner, name, make)
            return
        super().wrap(owner, name, lambda stock: self._guarded(stock, make))

    def _guarded(self, stock: Callable[..., Any], make: Callable[[Any], Any]) -> Callable[..., Any]:
        guard = self._guard

        def call(*args: Any, **kwargs: Any) -> Any:
            if not guard.on:
                return stock(*args, **kwargs)
            # An iterator can be gone through once, and the wrapper wants to see what is in it.
            if any(hasattr(type(value), "__next__") for value in (*args, *kwargs.values())):
                args, kwargs = tuple(map(_kept, args)), {name: _kept(value) for name, value in kwargs.items()}
            own = _OwnCall(stock, args, kwargs)
            try:
                make(own)(*args, **kwargs)
            except BaseException as error:
                if error is not own.raised:
                    if not isinstance(error, Exception):
                        raise
                    guard.fail(error)
            return own.outcome()

        return call


class _OwnCall:
    """The script's own call of a function: made once, by the wrapper or after it."""

    __slots__ = ("__name__", "__wrapped__", "_args", "_kwargs", "_made", "_result", "_stock", "raised")

    def __init__(self, stock: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._stock, self._args, self._kwargs = stock, args, kwargs
        self._made = False
        self._result: Any = None
        self.raised: BaseException | None = None
        # A wrapper looks at the function's name and parameters.
        self.__name__, self.__wrapped__ = getattr(stock, "__name__", ""), stock

    def __call__(self, *_: Any, **__: Any) -> Any:
        if not self._made:
            self._made = True
            try:
                self._result = self._stock(*self._args, **self._kwargs)
            except BaseException as error:
                self.raised = error
                raise
        return self._result

    def outcome(self) -> Any:
        """What it gave, or raised."""
        if self.raised is not None:
            raise self.raised
        return self()


def _kept(value: Any) -> Any:
    return list(value) if isinstance(value, Iterator) else value
