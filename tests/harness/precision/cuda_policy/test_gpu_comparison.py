"""The emulation against a real GPU, where there is one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.precision.cuda_policy import gpu_comparison
from harness.precision.cuda_policy.gpu_comparison import Comparison, compare_with_gpu, why_not


@pytest.mark.cuda
@pytest.mark.skipif(why_not() is not None, reason=why_not() or "")
def test_dtypes_are_those_of_the_gpu() -> None:
    rows = compare_with_gpu()
    assert [r for r in rows if not r.dtypes_agree] == []
    assert any(r.compared for r in rows)


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


@pytest.mark.filterwarnings("ignore::UserWarning")  # that there is no CUDA
def test_an_op_that_a_side_refuses_costs_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU can't be made up where there is one")
    # Without a GPU real autocast casts nothing, which stands in for a GPU that casts otherwise.
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)

    def compared(name: str) -> Comparison:
        return gpu_comparison._compare(name, torch.float16, torch.float32)

    assert compared("exp").dtypes_agree
    assert not compared("mm").dtypes_agree
    unknown = compared("an_op_of_tomorrow")
    assert not unknown.compared
    assert unknown.dtypes_agree
    assert "an_op_of_tomorrow" in unknown.emulated_raised

    def refuses(_: Any) -> torch.Tensor:
        raise RuntimeError("CUDA error: no kernel image is available")

    monkeypatch.setattr(torch.Tensor, "cuda", refuses)
    refused = compared("exp")
    assert (refused.compared, refused.dtypes_agree) == (False, False)
    assert "no kernel image" in refused.gpu_raised


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        ([Comparison("exp", "float16", "float32", ("float32",), ("float32",), 0.5)], 0),
        ([Comparison("exp", "float16", "float32", ("float32",), ("float16",), 0.5)], 1),
        ([Comparison("exp", "float16", "float32", ("float32",), (), 0.0, emulated_raised="no kernel")], 1),
        ([], 1),
    ],
)
def test_the_table_is_written_and_nothing_compared_is_no_agreement(
    rows: list[Comparison], status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_comparison, "why_not", lambda: None)
    monkeypatch.setattr(gpu_comparison, "compare_with_gpu", lambda: rows)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert gpu_comparison.main(["--json", str(tmp_path / "table.json")]) == status
    assert len(json.loads((tmp_path / "table.json").read_text())["ops"]) == len(rows)
