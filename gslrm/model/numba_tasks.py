"""How the compiled pass is compiled: into tasks, which are given addresses and share their work among threads."""

from __future__ import annotations

import hashlib
import pathlib
from types import ModuleType
from typing import Any

import llvmlite.ir as llvm
import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic

_OPTIONS: dict[str, Any] = {"fastmath": {"contract", "nsz"}, "error_model": "numpy"}
_njit: Any = numba.njit
_cfunc: Any = numba.cfunc
_intrinsic: Any = intrinsic


def compiled(function: Any) -> Any:
    """The function, to be compiled into the tasks that call it.

    Inlined, since a call hands over seven numbers for each array: of a plane of 64² pixels the pass took 12 µs, and 26
    where its functions were called (one thread of an AVX-512 CPU).
    """
    return _njit(forceinline=True, **_OPTIONS)(function)


def compiled_alone(function: Any) -> Any:
    """The function, which calls no other and has no global number but its file's own, compiled or read from disk."""
    try:
        return _njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:
        # No folder can be written to keep it in.
        return _njit(**_OPTIONS)(function)


def compiled_task(function: Any, record: np.dtype) -> int:
    """The address of ``void function(record *)``, compiled now or read from disk.

    Numba takes what is on disk for current while the file that the function is in, and what it has of the functions
    around it, are the same: let it have :func:`sources_digest` of what it calls in other files.
    """
    signature = types.void(types.CPointer(numba.from_dtype(record)))
    try:
        task = _cfunc(signature, cache=True, **_OPTIONS)(function)
    except RuntimeError:
        task = _cfunc(signature, **_OPTIONS)(function)
    _KEPT.append(task)
    return int(task.address)


def sources_digest(*modules: ModuleType) -> str:
    """A digest of modules' source files and of this one."""
    files = (__file__, *(str(module.__file__) for module in modules))
    return hashlib.sha256(b"".join(pathlib.Path(file).read_bytes() for file in files)).hexdigest()


_KEPT: list[Any] = []  # or their code would be freed


@_intrinsic
def pointer(typing_context: Any, address: Any) -> Any:
    """The address, an integer, as a pointer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], llvm.IntType(8).as_pointer())

    return types.voidptr(types.int64), generate


@_intrinsic
def take_number(typing_context: Any, counters: Any, place: Any) -> Any:
    """One of the 64-bit integers at a pointer, which is one more then. Atomic: no two threads take the same."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        integer = llvm.IntType(64)
        counter = builder.gep(builder.bitcast(arguments[0], integer.as_pointer()), [arguments[1]])
        return builder.atomic_rmw("add", counter, integer(1), "monotonic")

    return types.int64(counters, types.int64), generate


@_intrinsic
def magnitude_bits(typing_context: Any, value: Any) -> Any:
    """The bits of |value|, a float, as an integer of its size: they order as |value| does, infinity next, NaN last."""
    integer: Any = types.int32 if value == types.float32 else types.int64

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = llvm.IntType(integer.bitwidth)
        bits = builder.bitcast(arguments[0], kind)
        return builder.and_(bits, kind((1 << (integer.bitwidth - 1)) - 1))

    return integer(value), generate
