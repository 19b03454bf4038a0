"""Goldens recorded here hold elsewhere: other thread counts, other instruction sets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]
SETTINGS: dict[str, dict[str, str]] = {
    # Threads that wait for work without spinning: other tests need the processors.
    "two threads": {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"},
    # Of oneDNN, which convolves, the least that it has.
    "no vector instructions": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_goldens_pass_without_being_recorded_anew(name: str, tmp_path: Path) -> None:
    if name == "AVX2" and not torch.cpu._is_avx2_supported():
        pytest.skip("this processor has no AVX2")
    report = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "harness", "golden", "check", "--json", str(report)],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=ROOT,
        env={**os.environ, **SETTINGS[name]},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads(report.read_text())
    assert written["counts"]["passed"] > 0
    assert not {"failed", "missing", "unused"} & set(written["counts"])
    environment = written["environment"]
    assert environment["threads"] == int(SETTINGS[name].get("OMP_NUM_THREADS", "1"))
    # torch 2.6 says NO AVX for what later ones call DEFAULT.
    names = {"default": ("DEFAULT", "NO AVX"), "avx2": ("AVX2",)}
    expected = names.get(SETTINGS[name].get("ATEN_CPU_CAPABILITY", ""))
    assert expected is None or environment["cpu_capability"] in expected, "the setting did not take"


def test_the_folder_stays_small() -> None:
    assert sum(path.stat().st_size for path in (ROOT / "golden").rglob("*") if path.is_file()) < 5 * 2**18
