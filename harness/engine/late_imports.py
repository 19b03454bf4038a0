"""What torch imports only when it is first needed: taken beforehand, where else every fork would import it again."""

from __future__ import annotations

import contextlib
import importlib

_FOR_BACKWARD = ("torch.fx.experimental.symbolic_shapes",)
_FOR_TRACING = ("torch._dynamo",)


def import_for_backward() -> None:
    """What ``torch.autograd.grad`` imports, sympy among it: 0.4 s."""
    _import(_FOR_BACKWARD)


def import_for_tracing() -> None:
    """What a mode that sees every op imports: 0.9 s."""
    _import(_FOR_TRACING)


def _import(names: tuple[str, ...]) -> None:
    for name in names:
        # Another torch may have it elsewhere: it is then imported when it is needed.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
