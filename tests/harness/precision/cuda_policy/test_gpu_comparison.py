"""The emulation against a real GPU, where there is one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.precision.cuda_policy.gpu_comparison import compare_with_gpu, why_not


@pytest.mark.cuda
@pytest.mark.skipif(why_not() is not None, reason=why_not() or "")
def test_dtypes_are_those_of_the_gpu() -> None:
    assert [r for r in compare_with_gpu() if not r.dtypes_agree] == []


@pytest.mark.skipif(why_not() is None, reason="there is a GPU")
def test_says_why_it_does_not_run() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "harness.precision.cuda_policy.gpu_comparison"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "sees no CUDA GPU" in ran.stdout
    with pytest.raises(RuntimeError, match="machine that has one"):
        compare_with_gpu()
