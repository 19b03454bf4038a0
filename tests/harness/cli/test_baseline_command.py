"""A baseline of brown-field code: it holds, breaks where the code gets worse, and tells what is gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# As it is, twice as wrong by a factor of 40, and right.
LOSS = """
import pytorch_msssim
from torch import nn
from gslrm.model.utils_losses import SsimLoss

class AsItIs(nn.Module):
    def __init__(self):
        super().__init__()
        self.ssim = pytorch_msssim.SSIM(data_range=1.0, channel=3)

    def forward(self, x, y):
        return 1.0 - self.ssim(x, y)

class Worse(AsItIs):
    def forward(self, x, y):
        loss = super().forward(x, y)
        return loss - 40.0 * abs(loss.detach().clamp(max=0.0)) - 5.0 * (loss.detach() < 1e-3)

Loss = NAME
"""
ROOT = Path(__file__).resolve().parents[3]


def _run(folder: Path, name: str, command: str, *more: str) -> subprocess.CompletedProcess[str]:
    (folder / "losses.py").write_text(LOSS.replace("NAME", name))
    words = (command, "--loss", "losses.py:Loss", "--truth", "ssim", "--property", "range", "--max-examples", "3")
    return subprocess.run(
        [sys.executable, "-m", "harness", *words, "--strict", *more],
        cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.slow
def test_pytorch_msssim_is_accepted_until_it_gets_worse(tmp_path: Path) -> None:
    """Under every precision of this machine."""
    accepted = _run(tmp_path, "AsItIs", "baseline", "--reason", "known for years")
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr
    again = _run(tmp_path, "AsItIs", "check")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "known for years" in again.stdout
    worse = _run(tmp_path, "Worse", "check")
    assert worse.returncode == 1, worse.stdout + worse.stderr
    assert "more than is accepted" in worse.stdout
    mended = _run(tmp_path, "SsimLoss", "check")
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert "gone: range under" in mended.stdout
