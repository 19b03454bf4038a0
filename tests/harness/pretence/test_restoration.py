"""The pretence leaves nothing behind, however the block ends."""

from __future__ import annotations

import subprocess
import sys
import threading
from multiprocessing.reduction import ForkingPickler
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.overrides import _get_current_function_mode_stack
from torch.utils import checkpoint, data

import harness
from harness.errors import UsageError
from harness.pretence import pretend_cuda
from harness.pretence.patches import Patches
from harness.process_state import read_state

# What the first optimizer of a process imports: attributes that come with it are not the pretence's.
torch.optim.SGD([torch.nn.Parameter(torch.ones(1))])

_OWNERS: tuple[Any, ...] = (
    torch,
    torch._C,
    torch.cuda,
    torch.cuda.memory,
    torch.cuda.random,
    torch.cuda.streams,
    torch.cuda.graphs,
    torch.cuda.nvtx,
    torch.cuda.nccl,
    torch.cuda.amp,
    torch.cuda.amp.GradScaler,
    torch.Tensor,
    torch._C.TensorBase,
    torch.nn.Module,
    torch.nn.Parameter,
    torch.nn.functional,
    torch.nn.parallel.comm,
    torch.nn.parallel.DistributedDataParallel,
    torch.amp,
    torch.amp.GradScaler,
    torch.amp.autocast,
    torch.amp.autocast_mode,
    torch.autograd,
    torch.autograd.graph.saved_tensors_hooks,
    torch.backends.cuda,
    torch.backends.cudnn,
    torch.distributed,
    torch.distributed.distributed_c10d,
    torch.jit,
    torch.serialization,
    torch.storage._StorageBase,
    torch.UntypedStorage,
    torch.optim.Optimizer,
    torch.utils._foreach_utils,
    torch.version,
    checkpoint,
    data.DataLoader,
    threading.Thread,
    *([torch.accelerator] if hasattr(torch, "accelerator") else []),
)
_FLAGS = (
    "torch.backends.cudnn.benchmark",
    "torch.backends.cudnn.enabled",
    "torch.backends.cudnn.deterministic",
    "torch.backends.cudnn.allow_tf32",
    "torch.backends.cuda.matmul.allow_tf32",
    "torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction",
    "torch.backends.cuda.flash_sdp_enabled()",
    "torch.backends.cuda.math_sdp_enabled()",
)


class _Snapshot:
    """All that the pretence might leave changed."""

    def __init__(self) -> None:
        self.attributes = [(owner, dict(vars(owner))) for owner in _OWNERS]
        self.checks = dict(checkpoint._allowed_determinism_checks_to_fns)  # type: ignore[attr-defined]
        self.finders = list(sys.meta_path)
        self.modes = _get_current_function_mode_stack()
        self.state = read_state()
        self.random = torch.get_rng_state()
        self.flags = {flag: eval(flag) for flag in _FLAGS}

    def check(self) -> None:
        for owner, before in self.attributes:
            now = vars(owner)
            changed = [name for name in before if now.get(name) is not before[name]]
            new = [name for name in now if name not in before and not isinstance(now[name], ModuleType)]
            assert not changed, owner
            assert not new, owner
        assert checkpoint._allowed_determinism_checks_to_fns == self.checks  # type: ignore[attr-defined]
        assert sys.meta_path == self.finders
        assert _get_current_function_mode_stack() == self.modes
        assert read_state() == self.state
        assert torch.equal(torch.get_rng_state(), self.random)
        assert {flag: eval(flag) for flag in _FLAGS} == self.flags
        assert torch._GLOBAL_DEVICE_CONTEXT.__dict__.get("device_context") is None


def _train() -> None:
    """Changes what a script changes."""
    torch.cuda.manual_seed_all(5)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.set_float32_matmul_precision("high")
    torch.backends.cuda.enable_flash_sdp(False)
    torch.set_default_device("cuda")
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    torch.cuda.set_stream(torch.cuda.Stream())
    model = torch.compile(torch.nn.Linear(2, 2))
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    scaler = torch.amp.GradScaler("cuda")
    with torch.autocast("cuda", torch.float16):
        loss = model(torch.ones(1, 2)).sum()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()


def _train_and(error: type[BaseException]) -> None:
    _train()
    raise error


def test_all_is_as_before() -> None:
    before = _Snapshot()
    with pretend_cuda():
        _train()
        assert torch.cuda.is_available()
    before.check()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_all_is_as_before_when_the_block_raises(error: type[BaseException]) -> None:
    before = _Snapshot()
    with pytest.raises(error), pretend_cuda():
        _train_and(error)
    before.check()


def test_inherited_attributes_and_static_methods_come_back_as_they_were() -> None:
    class Base:
        @staticmethod
        def static() -> int:
            return 1

        def inherited(self) -> int:
            return 1

    class Derived(Base):
        pass

    before = dict(vars(Base))
    patches = Patches()
    for owner, name in ((Base, "static"), (Derived, "inherited"), (Derived, "new")):
        patches.put(owner, name, lambda *_: 2)
    assert Derived().inherited() == 2
    patches.restore()
    assert dict(vars(Base)) == before
    assert not {"inherited", "new"} & set(vars(Derived))


def test_the_snapshot_sees_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    before = _Snapshot()
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    with pytest.raises(AssertionError):
        before.check()


def test_it_can_be_entered_again() -> None:
    for _ in range(2):
        with pretend_cuda():
            x = torch.ones(2, device="cuda")
            assert x.is_cuda
        assert not x.is_cuda


def test_a_block_inside_is_the_same() -> None:
    with pretend_cuda():
        x = torch.ones(2, device="cuda")
        with pretend_cuda():
            assert x.is_cuda
        assert torch.cuda.is_available()
        assert x.is_cuda


def test_a_block_inside_with_more_devices_is_refused() -> None:
    with pretend_cuda(), pytest.raises(UsageError, match="already, with 1 GPUs"), pretend_cuda(2):
        pass


def test_no_devices_are_refused() -> None:
    with pytest.raises(UsageError, match="from 1 up"), pretend_cuda(0):
        pass


def test_two_devices() -> None:
    with pretend_cuda(2):
        x = torch.ones(2, device="cuda:1")
        assert torch.cuda.device_count() == 2
        assert (x * 2).device == torch.device("cuda:1")
        assert x.to("cuda:0") is not x
        with torch.cuda.device(1):
            assert torch.ones(2).cuda().get_device() == 1
        assert torch.ones(2).cuda().get_device() == 0


def test_a_thread_that_goes_on_is_out_of_it_at_the_end() -> None:
    over, seen = threading.Event(), []

    def work() -> None:
        x = torch.ones(1).cuda()
        seen.append(x.is_cuda)
        over.wait(30)
        seen.append(x.is_cuda)

    with pretend_cuda():
        thread = threading.Thread(target=work)
        thread.start()
        while not seen and thread.is_alive():
            over.wait(0.001)
    over.set()
    thread.join()
    assert seen == [True, False]


def _where_a_tensor_is(rank: int, seen: list[str]) -> None:
    seen.append(f"{rank} {torch.ones(1).cuda(1).device}")


def test_a_spawned_process_is_in_a_pretence_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr(torch.multiprocessing, "spawn", lambda fn, args=(), nprocs=1: started.append((fn, args)))
    with pretend_cuda(2):
        torch.multiprocessing.spawn(_where_a_tensor_is, args=([],), nprocs=1)
    ((fn, (seen,)),) = started
    ForkingPickler.dumps(fn)  # as it is sent to the process
    fn(0, seen)
    assert seen == ["0 cuda:1"]
    assert not torch.cuda.is_initialized()


def test_importing_the_package_imports_no_torch() -> None:
    asked = "import sys, harness; assert 'torch' not in sys.modules; assert hasattr(harness, '__version__')"
    subprocess.run([sys.executable, "-c", asked], check=True)


def test_the_package_offers_it() -> None:
    assert harness.pretend_cuda is pretend_cuda
    with pytest.raises(AttributeError):
        _ = harness.no_such_name
