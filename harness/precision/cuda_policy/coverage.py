"""What of CUDA autocast the emulation covers: its lists held against the running torch's dispatcher.

An op on which the two disagree stays as stock torch runs it, and only a subject that calls it is told so. Ask here
for the ops that are left out:

    for name, reason in unemulated_ops():
        print(f"aten::{name}: {reason}")
"""

from __future__ import annotations

from harness.precision.cuda_policy.autocast_lists import AutocastLists
from harness.precision.cuda_policy.dispatcher import autocast_ops, op_exists
from harness.precision.cuda_policy.recurrent import CUDNN_OP


def unlike_dispatcher(lists: AutocastLists) -> dict[str, str]:
    """The ops on which the lists and the dispatcher disagree, each with what is known of it."""
    registered, listed = autocast_ops("cuda"), set(lists.policy_of())
    unlike = dict.fromkeys(
        registered - listed - {CUDNN_OP},
        "the dispatcher has a CUDA autocast kernel for it, which torch's header doesn't list",
    )
    for name in listed - registered:
        unlike[name] = (
            "torch's header lists it, but the dispatcher has no CUDA autocast kernel for it"
            if op_exists(name)
            else "torch's header lists it, but this torch has no such op"
        )
    return dict(sorted(unlike.items()))


def only_cpu_casts(lists: AutocastLists) -> frozenset[str]:
    """The ops that CPU autocast casts and CUDA autocast leaves alone. Ask outside the emulation, which adds
    CPU kernels.
    """
    return autocast_ops("cpu") - autocast_ops("cuda") - set(lists.policy_of())


def unemulated_ops() -> tuple[tuple[str, str], ...]:
    """The ops of CUDA autocast that the emulation leaves out in the installed torch, as (name, reason), sorted.

    A subject that calls one of them inside emulated autocast gets
    :class:`harness.precision.cuda_policy.errors.UnknownOpError`. Empty where nothing is left out, and where there is
    no emulation at all: :func:`harness.precision.unavailable_reason` of a ``cuda-policy-*`` precision says so then.
    """
    from harness.precision.cuda_policy.emulation import left_out  # which imports this module

    return left_out()
