"""The compiled pass: its jobs, the threads it takes, and a forked process."""

from __future__ import annotations

import multiprocessing

import pytest
import torch
from torch import Tensor

from gslrm.model import ssim_fused
from gslrm.model.ssim_loss import SsimTerms, ssim_loss
from gslrm.model.torch_threads import run_on_threads
from tests.gslrm.model.by_path import NUMBA, TERMS, of_path, truth
from tests.gslrm.model.masked_pairs import disc, pair


@NUMBA
def test_low_boxes_are_cut_into_as_many_bands_as_a_tall_one() -> None:
    mask = torch.zeros(1, 1, 540, 290)
    mask[..., :512, :240] = 1  # eight bands for eight threads
    mask[..., 528:, 100:112] = 1  # the last of which see no window of their own
    mask[..., 536:, 270:] = 1  # and half of which are empty
    x, y = pair(1, 1, 540, 290)
    right = truth(x, y, mask)
    torch.set_num_threads(8)
    try:
        found = of_path("numba", x, y, mask)
    finally:
        torch.set_num_threads(1)
    assert found[0] == pytest.approx(right[0], rel=1e-6)
    assert float((found[1] - right[1]).norm() / right[1].norm()) < 1e-5


@NUMBA
@pytest.mark.parametrize(
    ("images", "side", "shown", "threads"),
    [(12, 256, 57, 2), (12, 256, 4, 1), (2, 32, 32, 1), (2, 64, 64, 2), (1, 256, 256, 2)],
)
def test_a_thread_is_taken_where_it_has_enough_to_do(
    images: int, side: int, shown: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def watched(task: int, data: int, number: int) -> None:
        started.append(number)
        run_on_threads(task, data, number)

    x, y = pair(images, 3, side, side)
    mask = torch.zeros(images, 1, side, side)
    mask[:, :, :shown, :shown] = 1.0
    of_path("numba", x, y, mask)
    monkeypatch.setattr(ssim_fused, "run_on_threads", watched)
    torch.set_num_threads(2)
    try:
        of_path("numba", x, y, mask)
    finally:
        torch.set_num_threads(1)
    # The first looks at the mask.
    assert started[1] == threads


@NUMBA
def test_a_forked_child_calls_it_too() -> None:
    x, y = pair(4, 3, 128, 128)
    mask = torch.ones(4, 1, 128, 128)
    terms = SsimTerms(TERMS, "numba")
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def in_child() -> None:
        # Nothing but the loss: torch's own threads are lost in a fork, and are waited for.
        there.send(ssim_loss(x, y, mask, terms).item())

    torch.set_num_threads(2)
    try:
        value = ssim_loss(x, y, mask, terms).item()
        child = context.Process(target=in_child)
        child.start()
    finally:
        torch.set_num_threads(1)
    try:
        assert here.poll(60), "the child hangs"
        assert here.recv() == pytest.approx(value, rel=1e-12)
    finally:
        child.kill()
        child.join()


@NUMBA
def test_there_are_moreislands_than_boxes() -> None:
    mask = torch.zeros(1, 1, 33 * 17, 33 * 17)
    mask[..., 8::33, 8::33] = 1
    x, y = pair(1, 1, *mask.shape[2:])
    found, right = of_path("numba", x, y, mask), truth(x, y, mask)
    assert found[0] == pytest.approx(right[0], rel=1e-6)
    assert float((found[1] - right[1]).norm() / right[1].norm()) < 1e-5


@NUMBA
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_nan_leaves_nothing_behind(dtype: torch.dtype) -> None:
    """The scratch of one call is that of the next, whose box may be wider and higher."""

    def called(x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        # By one image alone: for the other there would be a pass between.
        x = x.to(dtype).requires_grad_()
        loss = ssim_loss(x, y.to(dtype), mask, SsimTerms(TERMS, "numba"))
        return loss.detach(), torch.autograd.grad(loss, x)[0]

    larger = *pair(1, 1, 130, 200), disc(1, 130, 200, radius=60)
    right = called(*larger)
    spoilt, _ = called(torch.full((1, 1, 90, 60), float("nan")), torch.zeros(1, 1, 90, 60), torch.ones(1, 1, 90, 60))
    assert spoilt.isnan()
    assert all(torch.equal(one, other) for one, other in zip(called(*larger), right, strict=True))
