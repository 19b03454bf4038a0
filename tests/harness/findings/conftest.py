from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture
def clean_imports() -> Iterator[None]:
    """``export`` loads the subject in this process."""
    finders, places, modules = list(sys.meta_path), list(sys.path), set(sys.modules)
    yield
    sys.meta_path[:], sys.path[:] = finders, places
    for name in set(sys.modules) - modules:
        if name.startswith("subject_"):
            del sys.modules[name]
