"""piq's SSIM, also where torchvision has no build for this torch: piq imports it for its networks alone.

In torchvision's place stands, for the time of the import alone, a module of empty classes.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from typing import Any
from unittest import mock

from torch import nn


class _Empty(types.ModuleType):
    """Has every name: a class that can be inherited from, or a module."""

    __path__ = ()  # a package, to the import

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (nn.Module,), {})


def _imported() -> Any:
    if importlib.util.find_spec("torchvision") is not None:
        return importlib.import_module("piq")
    names = ("torchvision", "torchvision.models", "torchvision.models.inception", "torchvision.models.utils")
    places = {name: _Empty(name) for name in names}
    for name in names[1:]:
        parent, _, last = name.rpartition(".")
        setattr(places[parent], last, places[name])
    with mock.patch.dict(sys.modules, places):
        found = importlib.import_module("piq")
        own = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "piq"}
    # The patch takes away what was imported within it.
    sys.modules.update(own)
    return found


SSIMLoss = _imported().SSIMLoss
