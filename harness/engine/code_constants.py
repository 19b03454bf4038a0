"""Keep what Hypothesis draws apart from the code that happens to be imported.

Hypothesis also draws numbers that stand in the source of whatever local modules are imported. Which these are depends
on the subject, on what ran before in the process, and on whether it is a worker: the same seed would not give the same
cases.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from hypothesis.internal.conjecture import providers

_NAME = "_get_local_constants"  # none in versions before 6.131, which draw none


@contextlib.contextmanager
def no_code_constants() -> Iterator[None]:
    """Within, Hypothesis draws no number for standing in someone's code."""
    stock: Any = getattr(providers, _NAME, None)
    if stock is None:
        yield
        return
    # What was permitted of the constants is kept, too.
    providers.CONSTANTS_CACHE.cache.clear()
    setattr(providers, _NAME, providers.Constants)
    try:
        yield
    finally:
        setattr(providers, _NAME, stock)
        providers.CONSTANTS_CACHE.cache.clear()
