"""CUDA's autocast for a script on a machine without a GPU: a small stand-in, by the lists that the emulation reads."""

from __future__ import annotations

import textwrap

import torch

from harness.precision.cuda_policy.autocast_lists import read_autocast_lists

STAND_IN = "a stand-in of a few lines that casts the inputs of the same ops"

_MODE = '''\
class LikeCudaAutocast(torch.overrides.TorchFunctionMode):
    """CUDA's autocast on CPU tensors, roughly: the inputs of the ops above are cast as CUDA's autocast does.

    It knows nothing of autocast regions within the call, of its weight cache, or of ops called from C++.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name, kwargs = getattr(function, "__name__", ""), kwargs or {}
        if name.startswith("__") or not name.endswith("_"):  # in-place ops are not cast
            name = name.strip("_")
            tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
            dtype = HALF if name in LOWER else torch.float32 if name in SINGLE else None
            if name in WIDEST:
                dtype = torch.float32 if any(x.dtype == torch.float32 for x in tensors) else HALF
            if dtype is not None:
                args, kwargs = tree_map(lambda x: self.cast(x, dtype), (args, kwargs))
        return function(*args, **kwargs)

    @staticmethod
    def cast(x, dtype):
        eligible = isinstance(x, torch.Tensor) and x.is_floating_point() and x.dtype != torch.float64
        return x.to(dtype) if eligible else x

'''


def stand_in_source(dtype: torch.dtype) -> list[str]:
    """Lines that define ``LikeCudaAutocast``, given ``torch``."""
    lists = read_autocast_lists()
    named = {
        "LOWER": lists.lower_precision,
        "SINGLE": ("rpow", *lists.float32, *lists.float32_unless_dtype, *lists.float32_appended),
        "WIDEST": lists.widest,
    }
    lines = ["from torch.utils._pytree import tree_leaves, tree_map", "", f"HALF = {dtype}"]
    for name, ops in named.items():
        public = sorted({op.partition(".")[0] for op in ops if not op.startswith("_")})
        words = textwrap.wrap(" ".join(public), 108)
        lines += [f'{name} = """', *(f"    {line}" for line in words), '""".split()']
    return [*lines, "", "", *_MODE.splitlines()]
