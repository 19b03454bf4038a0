"""Known numbers of SSIM under CUDA autocast, found without a GPU; and what the emulation costs."""

from __future__ import annotations

import inspect
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytorch_msssim import ssim

from harness.precision.cuda_policy.emulation import emulate_cuda_autocast

HALVES = (torch.float16, torch.bfloat16)


@pytest.mark.parametrize("offset", [0.0, 1e-7])
@pytest.mark.parametrize(("dtype", "seen"), [(torch.float16, 1.0218), (torch.bfloat16, 0.7311)], ids=str)
def test_flat_pair_that_cpu_autocast_acquits(dtype: torch.dtype, seen: float, offset: float) -> None:
    x = torch.full((1, 3, 32, 32), 0.6)
    with torch.autocast("cpu", dtype=dtype):
        assert ssim(x, x + offset, data_range=1.0) == 1
    with emulate_cuda_autocast(dtype):
        assert ssim(x, x + offset, data_range=1.0).item() == pytest.approx(seen, abs=5e-5)


def torchmetrics_ssim(*, before_its_fix: bool) -> Callable[..., Any]:
    """torchmetrics' SSIM as installed, or without the two casts that its fix of #1290 added."""
    module = pytest.importorskip("torchmetrics.functional.image.ssim", reason="torchmetrics is not installed")
    if not before_its_fix:
        return module._ssim_update
    source = inspect.getsource(module._ssim_update)
    if source.count(".to(dtype)") != 2:
        pytest.skip("this torchmetrics has another SSIM than the one that the fix of #1290 left")
    namespace = dict(vars(module))
    exec(source.replace(".to(dtype)", ""), namespace)
    return namespace["_ssim_update"]


@pytest.mark.parametrize(
    ("before_its_fix", "of_zeros", "of_ones"),
    # https://github.com/Lightning-AI/torchmetrics/issues/1290 and its pull request 1291 print these on a GPU.
    [(True, 1.3245, 0.9997), (False, 1.0002, 1.0000)],
    ids=["before its fix", "since"],
)
def test_torchmetrics_1290(before_its_fix: bool, of_zeros: float, of_ones: float) -> None:
    update = torchmetrics_ssim(before_its_fix=before_its_fix)
    zeros = torch.zeros(1, 3, 96, 96)
    with emulate_cuda_autocast(torch.float16), torch.autocast("cuda"):
        assert round(update(zeros, zeros, data_range=1.0).item(), 4) == of_zeros
        assert round(update(zeros + 1, zeros + 1, data_range=1.0).item(), 4) == of_ones
    with torch.autocast("cpu", dtype=torch.float16):
        assert round(update(zeros, zeros, data_range=1.0).item(), 4) == 1


def test_overhead_of_a_forward_and_backward_pass() -> None:
    """At most 5 ms more than the same pass without it, entering and leaving included.

    Medians of interleaved runs, in the thread's own processor time, so that a busy machine does not count;
    the best of three rounds. Without such company, clock time says the same.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, 3, 64, 64, generator=generator).requires_grad_()
    y = torch.rand(1, 3, 64, 64, generator=generator)

    def step() -> None:
        (1 - ssim(x, y, data_range=1.0)).backward()

    def emulated() -> None:
        with emulate_cuda_autocast(torch.bfloat16):
            step()

    def median_overhead() -> float:
        times: dict[Callable[[], None], list[float]] = {step: [], emulated: []}
        for _ in range(25):
            for run, spent in times.items():
                start = time.thread_time()
                run()
                spent.append(time.thread_time() - start)
        return statistics.median(times[emulated]) - statistics.median(times[step])

    rounds = []
    for _ in range(8):
        rounds.append(median_overhead())
        if rounds[-1] <= 5e-3:
            return
    pytest.fail(f"{1e3 * min(rounds):.2f} ms at best")
