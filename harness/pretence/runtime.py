"""Stand-ins for the functions of ``torch.cuda``: which GPUs there are, and what goes on on them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from harness.pretence.placement import Placement

NAME = "Pretended CUDA GPU"
CAPABILITY = (8, 0)
CUDA_VERSION = "12.4"
TOTAL_MEMORY = 24 * 2**30
"""Bytes of each pretended GPU; nothing is refused beyond."""


def nothing(*args: Any, **kwargs: Any) -> None:
    """Does nothing."""


def answering(value: Any) -> Callable[..., Any]:
    """A function that always gives ``value``."""

    def answer(*args: Any, **kwargs: Any) -> Any:
        return value

    return answer


def _index(placement: Placement, device: Any) -> int:
    if hasattr(device, "device") and not isinstance(device, torch.device):
        device = device.device
    index = placement.index("cuda" if device is None else device)
    if index is None or index < 0:
        raise ValueError(f"Expected a cuda device, but got: {device}")
    return index


def devices(placement: Placement) -> dict[str, Any]:
    """Which GPUs there are, and which is the current one."""

    def set_device(device: Any) -> None:
        placement.current = _index(placement, device)

    def exchange(index: int) -> int:
        before, placement.current = placement.current, index if index >= 0 else placement.current
        return before

    class Chosen:
        """Stands for ``torch.cuda.device``: a block with another current GPU."""

        def __init__(self, device: Any) -> None:
            self.idx = -1 if device is None else _index(placement, device)
            self.prev_idx = -1

        def __enter__(self) -> None:
            self.prev_idx = exchange(self.idx)

        def __exit__(self, *_: object) -> None:
            placement.current = self.prev_idx

    class ChosenOf(Chosen):
        """Stands for ``torch.cuda.device_of``: the current GPU is a tensor's, if it is on one."""

        def __init__(self, obj: Any) -> None:
            super().__init__(obj.get_device() if getattr(obj, "is_cuda", False) else None)

    def properties(device: Any = None) -> SimpleNamespace:
        index = _index(placement, device)
        return SimpleNamespace(
            name=f"{NAME} {index}",
            major=CAPABILITY[0],
            minor=CAPABILITY[1],
            total_memory=TOTAL_MEMORY,
            multi_processor_count=108,
            max_threads_per_multi_processor=2048,
            shared_memory_per_block=49152,
            regs_per_multiprocessor=65536,
            warp_size=32,
            L2_cache_size=40 * 2**20,
            is_integrated=0,
            is_multi_gpu_board=0,
            gcnArchName="",
            pci_bus_id=index,
            uuid=f"GPU-{index:08d}",
        )

    return {
        "is_available": answering(True),
        "is_initialized": answering(True),
        "_is_in_bad_fork": answering(False),
        "_initialized": True,
        "_lazy_init": nothing,
        "init": nothing,
        "device_count": answering(placement.devices),
        "current_device": lambda: placement.current,
        "set_device": set_device,
        "device": Chosen,
        "device_of": ChosenOf,
        "_exchange_device": exchange,
        "_maybe_exchange_device": exchange,
        "get_device_name": lambda device=None: f"{NAME} {_index(placement, device)}",
        "get_device_properties": properties,
        "get_device_capability": lambda device=None: (_index(placement, device), CAPABILITY)[1],
        "can_device_access_peer": lambda device, peer: _index(placement, device) != _index(placement, peer),
        "is_bf16_supported": answering(True),
        "is_tf32_supported": answering(True),
        "get_arch_list": answering([f"sm_{CAPABILITY[0]}{CAPABILITY[1]}"]),
        "get_gencode_flags": answering(f"-gencode compute=compute_{CAPABILITY[0]}{CAPABILITY[1]}"),
    }


def activity() -> dict[str, Any]:
    """What goes on: nothing is ever pending."""
    return {
        "synchronize": nothing,
        "ipc_collect": nothing,
        "is_current_stream_capturing": answering(False),
        "current_blas_handle": answering(0),
        "current_solver_handle": answering(0),
        "get_sync_debug_mode": answering(0),
        "set_sync_debug_mode": nothing,
        "utilization": answering(0),
        "memory_usage": answering(0),
        "temperature": answering(40),
        "power_draw": answering(50_000),
        "clock_rate": answering(1000),
        "device_memory_used": answering(0),
        "list_gpu_processes": answering("no processes are running"),
        "cudart": answering(_Cudart()),
        "check_error": nothing,
        "_sleep": nothing,
    }


def memory(placement: Placement) -> dict[str, Any]:
    """Memory: the bytes of the tensors on a GPU, as far as Python has seen them."""

    def allocated(device: Any = None) -> int:
        return placement.allocated[_index(placement, device)]

    def peak(device: Any = None) -> int:
        return placement.peak[_index(placement, device)]

    def reset(device: Any = None) -> None:
        index = _index(placement, device)
        placement.peak[index] = placement.allocated[index]

    def stats(device: Any = None) -> dict[str, Any]:
        told: dict[str, Any] = {}
        for kind in ("allocated_bytes", "active_bytes", "reserved_bytes", "requested_bytes"):
            told |= {f"{kind}.all.current": allocated(device), f"{kind}.all.peak": peak(device)}
            told |= {f"{kind}.all.allocated": peak(device), f"{kind}.all.freed": peak(device) - allocated(device)}
        return told | {"num_alloc_retries": 0, "num_ooms": 0, "max_split_size": -1}

    def summary(device: Any = None, abbreviated: bool = False) -> str:
        return f"{NAME}: {allocated(device)} bytes in tensors now, {peak(device)} at the most"

    def info(device: Any = None) -> tuple[int, int]:
        return max(0, TOTAL_MEMORY - allocated(device)), TOTAL_MEMORY

    return {
        "empty_cache": nothing,
        "mem_get_info": info,
        "memory_allocated": allocated,
        "memory_reserved": allocated,
        "memory_cached": allocated,
        "max_memory_allocated": peak,
        "max_memory_reserved": peak,
        "max_memory_cached": peak,
        "reset_peak_memory_stats": reset,
        "reset_max_memory_allocated": reset,
        "reset_max_memory_cached": reset,
        "reset_accumulated_memory_stats": nothing,
        "memory_stats": stats,
        "memory_stats_as_nested_dict": answering({}),
        "host_memory_stats": answering({}),
        "memory_summary": summary,
        "memory_snapshot": answering([]),
        "set_per_process_memory_fraction": nothing,
        "get_per_process_memory_fraction": answering(1.0),
        "get_allocator_backend": answering("native"),
        "_record_memory_history": nothing,
        "_dump_snapshot": nothing,
        "_snapshot": answering({"segments": [], "device_traces": []}),
        "_set_allocator_settings": nothing,
    }


class _Cudart:
    """What profilers call of the CUDA runtime."""

    cudaError = SimpleNamespace(success=0)

    def __getattr__(self, name: str) -> Any:
        from harness.pretence.refusals import refuse

        if not name.startswith("cudaProfiler"):
            refuse(f"torch.cuda.cudart().{name}", "the CUDA runtime is called")
        return answering(0)


def nvtx() -> dict[str, Any]:
    """Marks for a profiler that isn't there."""

    @contextlib.contextmanager
    def marked(*args: Any, **kwargs: Any) -> Any:
        yield

    return {
        "range": marked,
        "range_push": answering(0),
        "range_pop": answering(0),
        "range_start": answering(0),
        "range_end": nothing,
        "mark": nothing,
        "_device_range_start": answering(None),
        "_device_range_end": nothing,
    }
