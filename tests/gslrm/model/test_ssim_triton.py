"""The Triton kernel beyond what every path is held to: a GPU's compiler takes it, and what it does at its edges."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gslrm.model.utils_losses import MaskedSsimLoss, SsimLoss
from tests.gslrm.model.masked_pairs import disc, pair

_NO_TRITON = "Triton is not installed: nox -s triton has it"
_INTERPRETED = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1",
    reason="with TRITON_INTERPRET=1 the kernel runs on the CPU: nox -s triton",
)
_TRITON = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason=_NO_TRITON)

# In a process of its own, as whether the kernel is interpreted is settled when it is imported. No GPU is needed.
_COMPILE = """
import sys
from pathlib import Path
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from gslrm.model.ssim_triton import _tile

dtype, side, capability = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
images = ("x", "y", "by_x", "by_y", "sums", "numbers")
signature = {name: "*" + dtype if name in images else "i32" for name in _tile.arg_names}
signature["shown"] = "*u8"
constants = {"MASKED": True, "WANTS_X": True, "WANTS_Y": False, "SIDE": side}
signature.update(dict.fromkeys(constants, "constexpr"))
target = GPUTarget("cuda", capability, 32)
kernel = triton.compile(ASTSource(_tile, signature, constants), target=target, options={"num_warps": 8})
print(len(kernel.asm["cubin"]), kernel.metadata.shared)
"""


@_TRITON
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("dtype", "side"), [("fp32", 64), ("fp64", 32)])
def test_it_compiles_for_a_gpu_that_is_not_there(dtype: str, side: int, tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", _COMPILE, dtype, str(side), "80"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    size, shared = map(int, done.stdout.split())
    assert size > 0
    assert shared <= 99 * 1024  # what a block may have on every GPU since compute capability 8.0


@_TRITON
@_INTERPRETED
def test_many_tiles_and_tiles_of_which_nothing_is_shown() -> None:
    x, y = pair(1, 2, 150, 140)
    mask = disc(1, 150, 140, radius=9)
    values, gradients = [], []
    for path in ("triton", "torch"):
        rendering = x.clone().requires_grad_()
        loss = MaskedSsimLoss(path=path)(rendering, y, mask)
        values.append(loss.item())
        gradients.append(torch.autograd.grad(loss, rendering)[0])
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    assert float((gradients[0] - gradients[1]).norm()) <= 1e-6 * float(gradients[1].norm())
    assert not gradients[0].masked_select(mask <= 0.5).any()
    # Without a gradient the tiles are larger.
    with torch.no_grad():
        assert MaskedSsimLoss(path="triton")(x, y, mask).item() == pytest.approx(values[1], rel=1e-6)


@_TRITON
@_INTERPRETED
def test_a_nan_is_not_lost() -> None:
    x, y = pair(1, 1, 30, 30)
    x[0, 0, 3, 4] = float("nan")
    assert SsimLoss(check_values=False, path="triton")(x, y).isnan()
    mask = torch.ones(1, 1, 30, 30)
    mask[0, 0, 3, 4] = 0
    assert MaskedSsimLoss(path="triton")(x, y, mask).isfinite()


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the kernel takes tensors on the CPU")
def test_tensors_on_the_cpu_are_refused_or_triton_is_missed() -> None:
    x, y = pair(1, 1, 20, 20)
    missing = importlib.util.find_spec("triton") is None
    said = "Triton can't be imported" if missing else "for tensors on a CUDA device, and these are on cpu: take 'auto'"
    with pytest.raises(RuntimeError if missing else ValueError, match=said):
        SsimLoss(path="triton")(x, y)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@_TRITON
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_on_a_gpu_it_is_the_path_of_torch(dtype: torch.dtype) -> None:
    x, y = (image.to("cuda", dtype) for image in pair(2, 3, 150, 140))
    mask = disc(2, 150, 140).cuda()
    found = []
    for path in ("triton", "torch"):
        first, second = x.clone().requires_grad_(), y.clone().requires_grad_()
        loss = MaskedSsimLoss(path=path)(first, second, mask)
        found.append((loss.detach(), *torch.autograd.grad(loss, (first, second))))
    for one, other in zip(*found, strict=True):
        assert float((one - other).norm()) <= 1e-5 * float(other.norm())
