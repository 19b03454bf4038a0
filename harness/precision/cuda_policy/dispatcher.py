"""What the installed torch's dispatcher holds for autocast, to hold the header's lists against."""

from __future__ import annotations

import torch

from harness.precision.cuda_policy.autocast_lists import AutocastLists
from harness.precision.cuda_policy.errors import PolicyMismatchError


def autocast_ops(device_type: str) -> frozenset[str]:
    """The aten ops that have an autocast kernel for ``device_type`` ("cuda" or "cpu"), as ``name`` or
    ``name.overload``.
    """
    key = {"cuda": "AutocastCUDA", "cpu": "AutocastCPU"}[device_type]
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    names = torch._C._dispatch_get_all_op_names()
    return frozenset(n.removeprefix("aten::") for n in names if n.startswith("aten::") and has(n, key))


def only_cpu_casts(lists: AutocastLists) -> frozenset[str]:
    """The ops that CPU autocast casts and CUDA autocast leaves alone. Ask outside the emulation, which adds
    CPU kernels.
    """
    return autocast_ops("cpu") - set(lists.policy_of())


def refuse_unlike_dispatcher(lists: AutocastLists) -> None:
    """Checks that the lists name the ops that the dispatcher has CUDA autocast kernels for, no more and no
    fewer.

    Raises:
        PolicyMismatchError: they do not, with the ops in question.
    """
    registered, listed = autocast_ops("cuda"), set(lists.policy_of())
    if registered == listed:
        return
    unlisted = ", ".join(sorted(registered - listed)) or "none"
    unregistered = ", ".join(sorted(listed - registered)) or "none"
    raise PolicyMismatchError(
        f"The CUDA autocast lists of {lists.source} are not those of the running torch "
        f"{torch.__version__}: registered but not listed: {unlisted}; listed but not registered: "
        f"{unregistered}. Read the header of the installed torch; if it is that one, add the op to the "
        "*_APART names of autocast_lists.py with its policy."
    )
