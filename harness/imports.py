"""Imports that take long, made short, or made beforehand: torch has thousands of modules."""

from __future__ import annotations

import contextlib
import gc
import importlib
from collections.abc import Iterator


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Look for no garbage while modules are imported, nor among them later: they stay. Of torch's second that saves a
    seventh.

    Only for a process of our own: what else was in it until then is never looked through again either.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def import_dynamo() -> None:
    """What every optimizer's step imports, and a mode that sees every op: 0.7 s. Taken beforehand where else every fork
    would import it again.
    """
    # Another torch may have it elsewhere: it is then imported when it is needed.
    with contextlib.suppress(Exception):
        importlib.import_module("torch._dynamo")
