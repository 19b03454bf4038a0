"""torch's own files (zip archives since torch 1.6), looked through before torch reads them.

`torch.load(weights_only=True)` runs no code that a file names, but it takes the file's word for sizes, allocates what
it is told to, and skips the zip's checksums. What is checked here: the archive is whole, nothing in it is compressed,
its one pickle is of the opcodes and names that tensors and plain values need, and each storage is as long as said.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from pickletools import OpcodeInfo, genops, markobject, stackslice
from typing import Any

import torch

LARGEST_PICKLE = 2**24
"""Bytes of the pickle, which holds names, shapes and plain values; the tensors' numbers lie beside it."""
MOST_OPCODES = 2**20
_NAMES = {
    *("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter", "torch Size", "torch device"),
    *("collections OrderedDict", "collections Counter", "_codecs encode"),
    *("__builtin__ set", "builtins set", "__builtin__ complex", "builtins complex"),
}
_DTYPES = {name for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype)}
_ITEM_SIZES = {
    **dict.fromkeys(("DoubleStorage", "LongStorage", "ComplexFloatStorage"), 8),
    **dict.fromkeys(("FloatStorage", "IntStorage"), 4),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("CharStorage", "ByteStorage", "BoolStorage"), 1),
    "ComplexDoubleStorage": 16,
}


class ArchiveError(ValueError):
    """A file that torch is not to read; the message says why, without the file's name."""


def check_archive(path: Path) -> None:
    """Raise ArchiveError unless torch can read the file within its own size, and would run nothing that it names."""
    if not zipfile.is_zipfile(path):
        raise ArchiveError("it is no zip archive, as torch has written since 1.6, or is cut off")
    try:
        with zipfile.ZipFile(path) as archive:
            sizes, pickle = _members(archive, path.stat().st_size)
            if damaged := archive.testzip():
                raise ArchiveError(f"its member {damaged!r} is damaged: the checksum is another")
            data = archive.read(pickle)
    except ArchiveError:
        raise
    except Exception as error:  # a damaged archive stumbles in any way
        raise ArchiveError(f"its archive is damaged: {error}") from None
    _check_pickle(data, sizes, pickle.removesuffix("data.pkl"))


def _members(archive: zipfile.ZipFile, length: int) -> tuple[dict[str, int], str]:
    """The members' sizes, and the name of the one that is a pickle."""
    sizes: dict[str, int] = {}
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise ArchiveError(f"its member {member.filename!r} is compressed or encrypted, which torch's are not")
        if member.filename in sizes:
            raise ArchiveError(f"it has the member {member.filename!r} twice")
        sizes[member.filename] = member.file_size
    if sum(sizes.values()) > length:
        raise ArchiveError("its members are longer than the file")
    pickles = [name for name in sizes if name.endswith(".pkl")]
    if len(pickles) != 1 or pickles[0].count("/") != 1 or not pickles[0].endswith("/data.pkl"):
        raise ArchiveError("it has no data.pkl, or other pickles beside it: no file of torch.save")
    if sizes[pickles[0]] > LARGEST_PICKLE:
        raise ArchiveError(f"its data.pkl has more than {LARGEST_PICKLE} bytes")
    return sizes, pickles[0]


def _check_pickle(data: bytes, sizes: dict[str, int], folder: str) -> None:
    try:
        for storage in _storages(data):
            _check_storage(storage, sizes, folder)
    except ArchiveError:
        raise
    except Exception as error:
        raise ArchiveError(f"its data.pkl is damaged: {error}") from None


def _check_storage(storage: Any, sizes: dict[str, int], folder: str) -> None:
    """A persistent id is ("storage", its type, its member's name, its device, its numbers)."""
    if not isinstance(storage, tuple) or len(storage) != 5 or storage[0] != "storage":
        raise ArchiveError("its data.pkl refers to something that is no tensor")
    _, kind, key, _, count = storage
    size = sizes.get(f"{folder}data/{key}")
    item = _ITEM_SIZES.get(str(kind).removeprefix("torch ")) if str(kind).startswith("torch ") else None
    if item is None:
        raise ArchiveError(f"it holds a {kind}, which is no kind of number known here")
    if not isinstance(count, int) or size is None or count * item != size:
        raise ArchiveError(f"its storage {key!r} is not as long as its data.pkl says, or missing")


def _storages(data: bytes) -> Iterator[Any]:
    """The persistent ids of a pickle, whose opcodes are followed without being obeyed.

    Of the values on the stack only text, numbers, names and tuples of them are kept; all others are None. Raises
    ArchiveError for a name that tensors and plain values don't need, which torch would call.
    """
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for number, (opcode, argument, _) in enumerate(genops(data)):
        if number > MOST_OPCODES:
            raise ArchiveError(f"its data.pkl has more than {MOST_OPCODES} steps")
        if opcode.name == "BINPERSID":
            yield stack[-1]
        if opcode.name in ("PERSID", "STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ_EX"):
            raise ArchiveError("it holds more than tensors and plain values and would run code")
        _follow(opcode, argument, stack, memo)


def _follow(opcode: OpcodeInfo, argument: Any, stack: list[Any], memo: dict[Any, Any]) -> None:
    name = opcode.name
    if name in ("BINPUT", "LONG_BINPUT", "PUT"):
        memo[argument] = stack[-1]
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name in ("BINGET", "LONG_BINGET", "GET"):
        stack.append(memo[argument])
    elif name == "GLOBAL":
        module, _, what = str(argument).partition(" ")
        storage_or_dtype = module == "torch" and (what in _ITEM_SIZES or what in _DTYPES)
        if argument not in _NAMES and not storage_or_dtype:
            raise ArchiveError(f"it holds {argument}, so more than tensors and plain values, and would run code")
        stack.append(argument)
    else:
        taken = _take(opcode, stack)
        made: list[Any] = [argument] if isinstance(argument, (str, int)) else [None]
        if name == "MARK":
            made = [markobject]
        elif name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            made = [tuple(taken)]
        stack.extend(made * len(opcode.stack_after))


def _take(opcode: OpcodeInfo, stack: list[Any]) -> list[Any]:
    """What the opcode takes from the stack, without the mark."""
    before, taken = list(opcode.stack_before), []
    if stackslice in before:
        while (top := stack.pop()) is not markobject:
            taken.append(top)
        before = before[: before.index(markobject)]
    for _ in before:
        taken.append(stack.pop())
    return taken[::-1]
