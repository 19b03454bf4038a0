"""NCCL's names work, with gloo behind them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch.distributed import new_group

from harness.pretence import pretend_cuda

pytestmark = pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="no gloo")


@pytest.fixture(scope="module", autouse=True)
def _group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    store = tmp_path_factory.mktemp("group") / "store"
    with pretend_cuda():
        torch.cuda.set_device(0)
        dist.init_process_group("nccl", init_method=f"file://{store}", rank=0, world_size=1, device_id=torch.device(0))
        try:
            yield
        finally:
            dist.destroy_process_group()


def test_the_backend_is_what_was_asked_for() -> None:
    assert dist.get_backend() == "nccl"
    assert dist.is_nccl_available()


def test_a_group() -> None:
    group = dist.new_group([0], backend="nccl")
    x = torch.ones(2, device="cuda")
    dist.all_reduce(x, group=group)
    assert dist.get_backend(group) == "nccl"
    assert x.tolist() == [1.0, 1.0]


def test_a_function_that_was_imported_by_its_name_before() -> None:
    group = new_group([0], backend="nccl")
    x = torch.ones(2, device="cuda")
    dist.all_reduce(x, group=group)
    assert x.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_average(asynchronous: bool) -> None:
    x = torch.full((2,), 3.0, device="cuda")
    work = dist.all_reduce(x, op=dist.ReduceOp.AVG, async_op=asynchronous)
    if asynchronous:
        work.wait()
    assert x.is_cuda
    assert x.tolist() == [3.0, 3.0]


def test_an_average_is_divided_by_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "get_world_size", lambda group=None: 2)
    x = torch.full((2,), 3.0, device="cuda")
    dist.all_reduce(x, dist.ReduceOp.AVG)
    assert x.tolist() == [1.5, 1.5]


def test_a_barrier_of_devices() -> None:
    assert dist.barrier(device_ids=[0]) is None


def test_data_parallel_training() -> None:
    model = torch.nn.Linear(4, 4).cuda()
    whole = torch.nn.parallel.DistributedDataParallel(model, device_ids=[0], output_device=0)
    optimizer = torch.optim.SGD(whole.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cuda")
    before = model.weight.detach().clone()
    with torch.autocast("cuda", torch.float16):
        y = whole(torch.ones(2, 4))  # moved to the GPU by the wrapper
        assert (y.dtype, y.is_cuda) == (torch.float16, True)
        loss = y.float().pow(2).mean()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    assert not torch.equal(before, model.weight)
