"""Tensors as Python source that builds them again, exact to the bit."""

from __future__ import annotations

import base64
import keyword
import math
import textwrap
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

# Numbers written one by one: three channels of 16×16.
_MOST_WRITTEN = 3 * 16 * 16
# Pixels of a mask drawn with characters.
_MOST_DRAWN = 64 * 64
_WIDTH = 116


def tensor_source(name: str, tensor: Shaped[Tensor, "..."]) -> list[str]:
    """Lines that assign the tensor to ``name``, given ``torch``, ``base64``, ``zlib``, ``nan`` and ``inf``.

    A small one is written out, a large one as the compressed bytes of its numbers.
    """
    plain = tensor.detach().cpu().contiguous()
    one_plane = plain.ndim == 4 and plain.shape[1] > 1 and _same_bits(plain, plain[:, :1].expand_as(plain))
    written = plain[:, :1].contiguous() if one_plane else plain
    head, lines, tail = _built(written)
    if one_plane:
        tail += f".repeat(1, {plain.shape[1]}, 1, 1)"
    if plain.ndim == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last):
        tail += ".to(memory_format=torch.channels_last)"
    if not lines:
        return [f"{name} = {head}{tail}"]
    return [f"{name} = {head}", *(f"    {line}" for line in lines), tail]


def _built(tensor: Tensor) -> tuple[str, list[str], str]:
    """Head, lines between, and tail of an expression that builds a contiguous tensor."""
    shape, dtype = tuple(tensor.shape), str(tensor.dtype)
    if not tensor.numel():
        return f"torch.empty({shape}, dtype={dtype})", [], ""
    flat = tensor.flatten()
    if _same_bits(flat, flat[:1].expand_as(flat)):
        return f"torch.full({shape}, {_number(flat[0])}, dtype={dtype})", [], ""
    if tensor.ndim >= 2 and tensor.numel() <= _MOST_DRAWN and shape[-1] < _WIDTH and _is_a_mask(tensor):
        rows = ["".join("#" if on else "." for on in row) for row in tensor.reshape(-1, shape[-1]).bool().tolist()]
        lines = [f'"{row}",' for row in rows]
        head = 'torch.tensor([[pixel == "#" for pixel in row] for row in ['
        return head, lines, f"]]).reshape{shape}.to({dtype})"
    if tensor.numel() <= _MOST_WRITTEN:
        numbers = textwrap.wrap(", ".join(map(_number, flat)), _WIDTH)
        return "torch.tensor([", numbers, f"], dtype={dtype}).reshape{shape}"
    # Half precision has no buffer of its own in Python: its bytes are read as torch reads them.
    packed = base64.b64encode(zlib.compress(tensor.view(torch.uint8).numpy().tobytes(), 9)).decode()
    lines = [f'"{part}"' for part in textwrap.wrap(packed, _WIDTH - 2)]
    return (
        "torch.frombuffer(bytearray(zlib.decompress(base64.b64decode(  # raw bytes, compressed",
        lines,
        f"))), dtype={dtype}).reshape{shape}",
    )


def _is_a_mask(tensor: Tensor) -> bool:
    # −0.0 is no 0.
    return bool(((tensor == 0) | (tensor == 1)).all()) and not bool(torch.signbit(tensor).any())


def _same_bits(first: Tensor, second: Tensor) -> bool:
    return torch.equal(first.contiguous().view(torch.uint8), second.contiguous().view(torch.uint8))


def _number(value: Tensor) -> str:
    """The shortest text that gives these bits; any NaN for a NaN."""
    if not value.is_floating_point():
        return str(int(value))
    number = float(value)
    if math.isnan(number):
        return "nan"
    if math.isinf(number):
        return "inf" if number > 0 else "-inf"
    short = repr(float(np.format_float_scientific(np.float32(number), unique=True)))
    # Python reads 64 bits of it, and torch rounds these.
    exact = value.dtype != torch.float64 and np.float32(float(short)) == np.float32(number)
    return short if exact else repr(number)


def arguments_source(values: Mapping[str, Any]) -> str:
    """Arguments by name, as a call takes them; a name that is none doesn't become code."""
    if all(name.isidentifier() and not keyword.iskeyword(name) for name in values):
        return ", ".join(f"{name}={value!r}" for name, value in values.items())
    return f"**{dict(values)!r}"
