"""Skips what torch itself can't run on this processor."""

from __future__ import annotations

from collections.abc import Generator

import pytest

_REFUSED = "pack_vnni2 is only supported when avx512 is supported"


def refused_by_torch(error: BaseException) -> bool:
    """Whether attention in half precision was refused, here or in a process of this test's.

    torch packs its operands for the matrix unit wherever the processor has one (AMX), also when ATEN_CPU_CAPABILITY has
    turned off the vector instructions that it packs them with.
    """
    stderr = getattr(error, "stderr", None) or ""
    said = stderr.decode(errors="replace") if isinstance(stderr, bytes) else str(stderr)
    return _REFUSED in str(error) or _REFUSED in said


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    try:
        return (yield)
    except Exception as error:
        if refused_by_torch(error):
            pytest.skip(f"torch can't run attention in half precision here: {_REFUSED}")
        raise
