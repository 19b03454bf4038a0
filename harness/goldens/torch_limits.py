"""What torch can't run on this processor."""

from __future__ import annotations

import re

from harness.errors import printable

# torch's sentence where one of its kernels was built for other instructions than it may use here.
_INSTRUCTIONS = re.compile(r"\b(avx|amx|vnni|pack_vnni|sve|neon|vsx)\w*\b", re.IGNORECASE)
_LACKING = re.compile(r"\b(only|not) supported\b|\bunsupported\b|\brequires?\b", re.IGNORECASE)


def why_torch_can_not(error: BaseException) -> str:
    """torch's own sentence where it has no kernel for this processor, or for the capability it was told; else empty.

    With ``ATEN_CPU_CAPABILITY=avx2`` on a processor with AMX, for one, a product of bfloat16 matrices raises
    "pack_vnni2 is only supported when avx512 is supported".
    """
    if type(error) is not RuntimeError:
        return ""
    first = printable(str(error).partition("\n")[0]).rstrip(".")
    return first if _INSTRUCTIONS.search(first) and _LACKING.search(first) else ""
