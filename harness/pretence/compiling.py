"""``torch.compile`` compiles nothing: what it gives has its usual shape and runs eagerly.

What is compiled for a GPU and for a CPU differs, and neither sees the emulation of autocast.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch

from harness.pretence.patches import Patches


def install(patches: Patches) -> None:
    """Patch ``torch.compile``; a module keeps its ``_orig_mod``."""

    def make(stock: Any) -> Any:
        def compile(model: Any = None, **kwargs: Any) -> Any:
            if model is None:
                return lambda decorated: compile(decorated, **kwargs)
            if not isinstance(model, torch.nn.Module):
                return model
            eval_frame: Any = importlib.import_module("torch._dynamo.eval_frame")
            return eval_frame.OptimizedModule(model, eval_frame.DisableContext())

        return compile

    patches.wrap(torch, "compile", make)
