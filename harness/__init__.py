"""Property-based tests and regression guards for any loss or training step, named by its import path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.pretence import pretend_cuda as pretend_cuda
    from harness.watching.watch import watch as watch

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Torch is imported when it is asked for: settings and help don't need it.
    if name == "pretend_cuda":
        from harness.pretence import pretend_cuda

        return pretend_cuda
    if name == "watch":
        from harness.watching.watch import watch

        return watch
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
