"""A process in which gloo stood for NCCL ends as its script would have, and isn't taken apart."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

from harness.config import environment_with_path

pytestmark = pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="no gloo")

_ROOT = Path(__file__).resolve().parents[3]
_SCRIPT = """
import atexit, sys, types
import torch, torch.distributed as dist

class TakenApart:
    def __del__(self, write=sys.stderr.write):
        write("taken apart\\n")

def train(rank):
    if {grouped}:
        dist.init_process_group("nccl", init_method="file://{folder}/store", rank=0, world_size=1)
        dist.all_reduce(torch.ones(2, device="cuda"))
    sys.modules["kept"] = kept = types.ModuleType("kept")
    kept.log = open(r"{folder}/log", "w")
    kept.log.write("every line")
    kept.thing = TakenApart()
    atexit.register(print, "at exit")
    print("trained", end=" ")
    {last}

if __name__ == "__main__":
    {start}
"""
_WATCH = ["-m", "harness", "watch", "--pretend-cuda", "--"]
_PRETENCE = ["-m", "harness.pretence"]


def _run(folder: Path, how: list[str], **parts: str) -> subprocess.CompletedProcess[str]:
    parts = {"grouped": "True", "last": "pass", "start": "train(0)", **parts}
    (folder / "train.py").write_text(_SCRIPT.format(folder=folder, **parts))
    return subprocess.run(
        [sys.executable, *how, "train.py"],
        cwd=folder, env=environment_with_path(_ROOT), capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("how", "last", "code", "said"),
    [
        (_WATCH, "pass", 0, ""),
        (_WATCH, "sys.exit(7)", 7, ""),
        (_WATCH, "sys.exit(-1)", 255, ""),
        (_WATCH, "sys.exit('no more')", 1, "no more\n"),
        (_WATCH, "raise RuntimeError('its own error')", 1, "RuntimeError: its own error\n"),
        (_PRETENCE, "pass", 0, ""),
        (_PRETENCE, "sys.exit(7)", 7, ""),
    ],
)
def test_it_ends_as_its_script_would_have(how: list[str], last: str, code: int, said: str, tmp_path: Path) -> None:
    done = _run(tmp_path, how, last=last)
    assert (done.returncode, done.stdout) == (code, "trained at exit\n")
    assert said in done.stderr
    assert "taken apart" not in done.stderr
    assert (tmp_path / "log").read_text() == "every line"


def test_a_spawned_process_too(tmp_path: Path) -> None:
    done = _run(tmp_path, _PRETENCE, start="torch.multiprocessing.spawn(train, nprocs=1)")
    assert (done.returncode, done.stdout) == (0, "trained at exit\n")
    assert "taken apart" not in done.stderr
    assert (tmp_path / "log").read_text() == "every line"


def test_a_spawned_process_that_fails(tmp_path: Path) -> None:
    done = _run(tmp_path, _PRETENCE, start="torch.multiprocessing.spawn(train, nprocs=1)", last="raise ValueError('x')")
    assert done.returncode == 1
    assert "ProcessRaisedException" in done.stderr
    assert "ValueError: x" in done.stderr
    assert "taken apart" not in done.stderr


def test_without_groups_it_is_taken_apart(tmp_path: Path) -> None:
    done = _run(tmp_path, _PRETENCE, grouped="False", last="sys.exit(3)")
    assert (done.returncode, done.stdout) == (3, "trained at exit\n")
    assert done.stderr.endswith("taken apart\n")
