"""What stands in a property's function: its name, and the claim as its docstring."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

from harness.errors import UsageError


def name_of(check: Callable[..., Any]) -> str:
    """The property's name as ``--property`` takes it: the function's, with dashes; ``range_`` is ``range``."""
    return check.__name__.rstrip("_").replace("_", "-")


def claim_of(check: Callable[..., Any]) -> str:
    """The first paragraph of the function's docstring, on one line.

    Raises:
        TypeError: it has none.
        UsageError: Python was told to leave all docstrings out.
    """
    if sys.flags.optimize >= 2:
        raise UsageError(
            "python -OO (PYTHONOPTIMIZE=2) leaves out docstrings, and the claims of the properties are docstrings: "
            "run the harness without it."
        )
    text = inspect.getdoc(check) or ""
    claim = " ".join(text.partition("\n\n")[0].split())
    if not claim:
        raise TypeError(f"the property {check.__name__} makes no claim: its docstring is the claim.")
    return claim
