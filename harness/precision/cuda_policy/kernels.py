"""The kernels that the emulation puts in place of CPU autocast's: one for each op of the CUDA lists, one that
steps aside for each op that CPU autocast casts and CUDA autocast does not, and one that refuses for each op whose
casts are not known.

Overriding a kernel is process-wide, so each kernel first asks whether its thread is in the emulation; in any
other thread it hands the call to the kernel it replaced. Ops run under a guard that keeps autocast out of
what they call in turn, as in torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from harness.precision.cuda_policy.autocast_lists import AutocastLists
from harness.precision.cuda_policy.casting import THREAD, cast_all, is_eligible, widest
from harness.precision.cuda_policy.dispatcher import op_exists
from harness.precision.cuda_policy.errors import (
    BannedUnderAutocastError,
    EmulationConflictError,
    PolicyMismatchError,
    UnknownOpError,
)
from harness.precision.cuda_policy.recurrent import LAYER_OPS

Kernel = Callable[..., Any]

_KEY = torch._C.DispatchKey.AutocastCPU
# The overloads for named tensors, which torch had until 2.12.
_NAMED = re.compile(r"\.(names_|.*dimname)", re.IGNORECASE)


def op_overload(name: str) -> Any:
    """The ``torch.ops.aten`` overload of ``name`` or ``name.overload``.

    Raises:
        PolicyMismatchError: this torch has no such op.
    """
    packet, _, overload = name.partition(".")
    try:
        return getattr(getattr(torch.ops.aten, packet), overload or "default")
    except AttributeError:
        raise PolicyMismatchError(
            f"The autocast lists name aten::{name}, which torch {torch.__version__} does not have: read "
            "the header of the installed torch, not of another."
        ) from None


@dataclass(frozen=True)
class Kernels:
    """What is registered for AutocastCPU, by op, and what the emulation leaves out: op -> reason."""

    by_op: dict[str, Kernel]
    left_out: dict[str, str]


def build_kernels(lists: AutocastLists, only_cpu_casts: frozenset[str], unlike: dict[str, str]) -> Kernels:
    """Kernels to register for AutocastCPU. Build them before any is registered: they remember the stock kernels.

    Args:
        lists: the CUDA lists.
        only_cpu_casts: ops that CPU autocast casts and CUDA autocast leaves alone.
        unlike: ops on which lists and dispatcher disagree, each with what is known of it.
    """
    kernels: dict[str, Kernel] = {}
    left_out = dict(unlike)
    for name, policy in lists.policy_of().items():
        if name in left_out:
            continue
        if _NAMED.search(name):
            left_out[name] = "it takes named tensors, which no kernel written in Python can be given"
            continue
        try:
            kernels[name] = _guarded(op_overload(name), _ON_CUDA[policy](op_overload(name)), _stock_kernel(name))
        except PolicyMismatchError as error:
            left_out[name] = str(error)
    for name in filter(op_exists, LAYER_OPS):
        kernels[name] = _guarded(op_overload(name), _float16(op_overload(name)), _stock_kernel(name))
    for name in only_cpu_casts:
        kernels[name] = _stepping_aside(op_overload(name), _stock_kernel(name))
    for name, reason in left_out.items():
        # What isn't there nobody calls, and a named tensor would not come so far.
        if op_exists(name) and not _NAMED.search(name):
            kernels[name] = _refusing(op_overload(name), _stock_kernel(name), name, reason)
    return Kernels(kernels, left_out)


def _guarded(op: Any, on_cuda: Kernel, stock: Kernel) -> Kernel:
    exclude, autocast_keys = torch._C._ExcludeDispatchKeyGuard, _autocast_keys()
    no_overrides = torch._C.DisableTorchFunction
    enabled = torch._C.is_autocast_enabled

    def kernel(keyset: Any, *args: Any, **kwargs: Any) -> Any:
        if not THREAD.depth:
            return stock(keyset, *args, **kwargs)
        cast = enabled("cuda")  # read before the guard, which would answer no
        with no_overrides(), exclude(autocast_keys):
            return on_cuda(args, kwargs) if cast else op(*args, **kwargs)

    return kernel


def _refusing(op: Any, stock: Kernel, name: str, reason: str) -> Kernel:
    """Where autocast is on the call is noted and refused; elsewhere the op runs as ever."""
    refusal = (
        f"CUDA autocast casts aten::{name}, which this version doesn't know ({reason}): check this subject in the "
        "other precisions or on a GPU, or use a version of torch whose op is known."
    )

    def refuse(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        THREAD.unknown.append(refusal)
        raise UnknownOpError(refusal)

    return _guarded(op, refuse, stock)


def _stepping_aside(op: Any, stock: Kernel) -> Kernel:
    """As if no kernel were there: autocast still sees the ops that this one is made of, as on CUDA."""
    below = _below_autocast(op)

    def kernel(keyset: Any, *args: Any, **kwargs: Any) -> Any:
        return below(keyset, *args, **kwargs) if THREAD.depth else stock(keyset, *args, **kwargs)

    return kernel


def _below_autocast(op: Any) -> Kernel:
    after = torch._C._dispatch_keyset_full_after(_KEY)

    def kernel(keyset: Any, *args: Any, **kwargs: Any) -> Any:
        return op.redispatch(keyset & after, *args, **kwargs)

    return kernel


def _stock_kernel(name: str) -> Kernel:
    """What CPU autocast does with the op outside the emulation."""
    if not torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", "AutocastCPU"):
        return _below_autocast(op_overload(name))
    if hasattr(torch.library, "get_kernel"):
        return torch.library.get_kernel(f"aten::{name}", "AutocastCPU").call_boxed

    def refuse(keyset: Any, *args: Any, **kwargs: Any) -> Any:
        raise EmulationConflictError(
            f"aten::{name} was called under torch.autocast('cpu') while another thread was in "
            f"emulate_cuda_autocast, which torch {torch.__version__} cannot serve both: run them one after "
            "the other, or in two processes."
        )

    return refuse


def _lower_precision(op: Any) -> Kernel:
    def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _call(op, args, kwargs, torch.get_autocast_dtype("cuda"))

    return run


def _float16(op: Any) -> Kernel:
    def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _call(op, args, kwargs, torch.float16)

    return run


def _float32(op: Any) -> Kernel:
    def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _call(op, args, kwargs, torch.float32)

    return run


def _widest(op: Any) -> Kernel:
    def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _call(op, args, kwargs, widest((*args, *kwargs.values()), torch.get_autocast_dtype("cuda")))

    return run


def _float32_unless_dtype(op: Any) -> Kernel:
    names = [a.name for a in op._schema.arguments]
    if "dtype" not in names:
        raise PolicyMismatchError(f"{op} is listed as taking an optional dtype, but its schema is {op._schema}")
    position = names.index("dtype")

    def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = args[position] if position < len(args) else kwargs.get("dtype")
        if given is None and is_eligible(args[0]):
            args, kwargs = args[:position], {**kwargs, "dtype": torch.float32}
        return op(*args, **kwargs)

    return run


def _float32_appended(op: Any) -> Kernel:
    taking_dtype = _overload_with_dtype(op)
    names = [a.name for a in op._schema.arguments]
    # A call leaves out arguments that have their default value, but the other overload has no defaults
    # for them.
    defaults = {a.name: a.default_value for a in op._schema.arguments if a.has_default_value()}

    def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = {**defaults, **dict(zip(names, args, strict=False)), **kwargs}
        dtype = torch.float32 if is_eligible(args[0]) else args[0].dtype
        return taking_dtype(*(given[n] for n in names), dtype=dtype)

    return run


def _banned(op: Any) -> Kernel:
    def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        raise BannedUnderAutocastError(
            "torch.nn.functional.binary_cross_entropy and torch.nn.BCELoss raise under CUDA autocast, in "
            "which a half-precision probability can round to 0 or 1: leave out the sigmoid and use "
            "binary_cross_entropy_with_logits."
            if op._schema.name == "aten::binary_cross_entropy"
            else f"{op} raises under CUDA autocast: call it with autocast disabled, on float32."
        )

    return run


_ON_CUDA: dict[str, Callable[[Any], Kernel]] = {
    "lower_precision": _lower_precision,
    "float32": _float32,
    "float32_unless_dtype": _float32_unless_dtype,
    "float32_appended": _float32_appended,
    "widest": _widest,
    "banned": _banned,
}


def _call(op: Any, args: Any, kwargs: Any, to: torch.dtype) -> Any:
    if kwargs:
        kwargs = dict(zip(kwargs, cast_all(kwargs.values(), to), strict=True))
    return op(*cast_all(args, to), **kwargs)


def _overload_with_dtype(op: Any) -> Any:
    """The overload of the same op whose arguments are those of ``op`` and then a dtype."""
    wanted = [a.name for a in op._schema.arguments]
    for name in op._overloadpacket.overloads():
        other = getattr(op._overloadpacket, name)
        taken = other._schema.arguments
        same_types = all(str(a.type) == str(b.type) for a, b in zip(op._schema.arguments[2:], taken[2:], strict=False))
        if [a.name for a in taken] == [*wanted, "dtype"] and same_types and not any(a.is_out for a in taken):
            return other
    raise PolicyMismatchError(
        f"CUDA autocast sends {op} on to an overload that takes a dtype, and this torch shows none"
    )


@lru_cache(maxsize=1)
def _autocast_keys() -> Any:
    return torch._C.DispatchKeySet(_KEY) | torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCUDA)
