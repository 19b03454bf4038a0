"""What the installed torch's dispatcher holds for autocast."""

from __future__ import annotations

import torch


def autocast_ops(device_type: str) -> frozenset[str]:
    """The aten ops that have an autocast kernel for ``device_type`` ("cuda" or "cpu"), as ``name`` or
    ``name.overload``.

    Ask of the CPU outside the emulation, which adds CPU kernels.
    """
    key = {"cuda": "AutocastCUDA", "cpu": "AutocastCPU"}[device_type]
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    names = torch._C._dispatch_get_all_op_names()
    return frozenset(n.removeprefix("aten::") for n in names if n.startswith("aten::") and has(n, key))


def op_exists(name: str) -> bool:
    """Whether this torch has an aten op of this ``name`` or ``name.overload``."""
    packet, _, overload = name.partition(".")
    return hasattr(getattr(torch.ops.aten, packet, None), overload or "default")
