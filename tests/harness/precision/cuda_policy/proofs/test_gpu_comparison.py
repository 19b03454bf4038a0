"""The emulation against a real GPU, where there is one; elsewhere the command itself, with the emulation as GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.errors import ExitCode, PrecisionError
from harness.precision.cuda_policy.emulation import emulate_cuda_autocast
from harness.precision.cuda_policy.proofs import gpu_comparison
from harness.precision.cuda_policy.proofs.gpu_comparison import compare_with_gpu, compared_ops, main, why_not
from harness.precision.cuda_policy.proofs.op_samples import WITHOUT_CPU_KERNEL
from harness.precision.cuda_policy.recurrent import LAYER_OPS


@pytest.mark.cuda
@pytest.mark.skipif(why_not() is not None, reason=why_not() or "")
def test_dtypes_are_those_of_the_gpu() -> None:
    assert [row for row in compare_with_gpu() if not row.agrees] == []


@pytest.mark.skipif(why_not() is None, reason="there is a GPU")
def test_says_why_it_does_not_run() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "harness.precision.cuda_policy.proofs.gpu_comparison"], capture_output=True, text=True
    )
    assert ran.returncode == ExitCode.PRECISION
    assert ran.stderr.startswith("harness: Cannot compare with a GPU: ")
    assert "sees no CUDA GPU" in ran.stderr
    with pytest.raises(PrecisionError, match="machine that has one"):
        compare_with_gpu()


@pytest.fixture
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_comparison, "why_not", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "none")
    monkeypatch.setattr(Tensor, "cuda", lambda self: self)


@pytest.mark.usefixtures("pretended_gpu")
@pytest.mark.filterwarnings("ignore")
def test_every_op_is_compared_and_written_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = compared_ops()
    assert set(LAYER_OPS) <= set(names)
    assert not WITHOUT_CPU_KERNEL & set(names)
    path = tmp_path / "comparison.json"
    with emulate_cuda_autocast(enabled=False):
        assert main(["--json", str(path)]) == ExitCode.HELD
    assert f"{4 * len(names)} calls of {len(names)} ops on none" in capsys.readouterr().out
    report = json.loads(path.read_text())
    assert (report["gpu"], report["torch"], report["differ"]) == ("none", torch.__version__, 0)
    assert {row["op"] for row in report["ops"]} == set(names)
    banned = [row for row in report["ops"] if row["op"] == "binary_cross_entropy"]
    assert all(row["gpu_error"] and row["emulated_error"] for row in banned)


@pytest.mark.usefixtures("pretended_gpu")
@pytest.mark.filterwarnings("ignore")
def test_a_difference_is_told_and_costs_no_other_op(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Without the emulation around it, autocast("cuda") does nothing here, as on a GPU with other lists.
    monkeypatch.setattr(gpu_comparison, "compared_ops", lambda: ("binary_cross_entropy", "exp", "mm"))
    assert main([]) == ExitCode.VIOLATED
    lines = capsys.readouterr().out.splitlines()
    assert "12 calls of 3 ops" in lines[0]
    assert "8 differ" in lines[0]
    assert "  mm in float16 from float32: GPU ('float32',), emulated ('float16',)" in lines
    assert any("binary_cross_entropy in bfloat16" in line and "BannedUnderAutocastError" in line for line in lines)
