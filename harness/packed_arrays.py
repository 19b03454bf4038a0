"""Small arrays in JSON: their shape, and their numbers as base64 of little-endian float32."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_NUMBERS = 2**16
"""Numbers of an array that is read."""


def packed(array: Any) -> dict[str, Any]:
    """An array or CPU tensor of real numbers, rounded to float32."""
    numbers = np.ascontiguousarray(np.asarray(array), dtype="<f4")
    return {"shape": list(numbers.shape), "float32": base64.b64encode(numbers.tobytes()).decode("ascii")}


def unpacked(data: Any) -> NDArray[np.float32]:
    """What :func:`packed` gave.

    Raises:
        ValueError: it is something else, or has more than :data:`MOST_NUMBERS`.
    """
    if not isinstance(data, Mapping):
        raise ValueError("an array must be an object of 'shape' and 'float32'")
    shape, text = data.get("shape"), data.get("float32")
    if not isinstance(shape, list) or len(shape) > 4 or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("an array's 'shape' must be a list of up to four whole numbers")
    if not isinstance(text, str) or math.prod(shape) > MOST_NUMBERS:
        raise ValueError("an array's 'float32' must be text, of few numbers")
    try:
        found = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"an array's 'float32' is no base64: {error}") from None
    if len(found) != 4 * math.prod(shape):
        raise ValueError(f"an array of shape {shape} can't have {len(found)} bytes")
    return np.frombuffer(found, "<f4").reshape(shape)
