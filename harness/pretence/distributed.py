"""``nccl`` is ``gloo``, and what gloo doesn't take of it is left out or done by hand."""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.distributed as dist

from harness.pretence import runtime
from harness.pretence.ending import gloo_stands
from harness.pretence.patches import Patches


def install(patches: Patches) -> None:
    """Patch the functions of ``torch.distributed`` that name a backend or a device, and those of ``DataParallel``."""
    patches.put_all(torch.nn.parallel.comm, {f.__name__: f for f in (scatter, gather, broadcast, broadcast_coalesced)})
    patches.put_all(torch.nn.parallel.comm, {f.__name__: f for f in (reduce_add, reduce_add_coalesced)})
    if not dist.is_available():
        return
    asked: dict[int, str] = {}
    core = dist.distributed_c10d
    for name in ("init_process_group", "new_group"):
        position = 0 if name == "init_process_group" else 2
        wrapped = _opening(getattr(core, name), position, asked)
        for module in (dist, core):
            patches.wrap(module, name, runtime.answering(wrapped))
    # What both come to: a process started by `spawn` imports the two by name before it is in a pretence.
    patches.wrap(core, "_new_process_group_helper", _making)
    for name in ("all_reduce", "reduce", "reduce_scatter_tensor"):
        reducing = _averaging(getattr(core, name), 1 if name == "all_reduce" else 2)
        for module in (dist, core):
            patches.wrap(module, name, runtime.answering(reducing))
    barrier = _without(core.barrier, "device_ids", 2)
    for module in (dist, core):
        patches.wrap(module, "barrier", runtime.answering(barrier))
    patches.wrap(dist, "get_backend", lambda stock: _answering(stock, asked))
    # Not in `distributed_c10d`, which takes yes for the promise of a class.
    patches.put(dist, "is_nccl_available", lambda: True)
    if hasattr(dist, "init_device_mesh"):
        patches.wrap(dist, "init_device_mesh", _mesh)
        patches.wrap(dist.device_mesh, "init_device_mesh", _mesh)


def _gloo(backend: Any) -> Any:
    """``"nccl"`` and ``"cpu:gloo,cuda:nccl"`` as gloo; None, which torch takes for all there are, too."""
    if backend is None or "nccl" in str(backend).lower():
        return "gloo"
    return backend


def _opening(stock: Any, position: int, asked: dict[int, str]) -> Any:
    def opening(*args: Any, **kwargs: Any) -> Any:
        given = list(args)
        named = kwargs.get("backend", given[position] if len(given) > position else None)
        if len(given) > position:
            given[position] = _gloo(named)
        elif named is not None or position == 0:
            kwargs["backend"] = _gloo(named)
        # Both are NCCL's alone: which GPU to connect at once, and how.
        kwargs.pop("device_id", None)
        if "nccl" in str(named).lower():
            kwargs.pop("pg_options", None)
        group = stock(*given, **kwargs)
        made = dist.group.WORLD if group is None else group
        if "nccl" in str(named).lower():
            asked[id(made)] = "nccl"
        elif id(made) in asked:  # of a group that is gone
            del asked[id(made)]
        return group

    return opening


def _making(stock: Any) -> Any:
    signature = inspect.signature(stock)

    def making(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        given.arguments["backend"] = dist.Backend(_gloo(given.arguments.get("backend")))
        gloo_stands()
        given.arguments.pop("device_id", None)
        return stock(*given.args, **given.kwargs)

    return making


def _answering(stock: Any, asked: dict[int, str]) -> Any:
    def get_backend(group: Any = None) -> Any:
        return asked.get(id(dist.group.WORLD if group is None else group)) or stock(group)

    return get_backend


def _averaging(stock: Any, position: int) -> Any:
    """Gloo has no average: a sum is divided."""

    def reducing(*args: Any, **kwargs: Any) -> Any:
        given = list(args)
        op = kwargs.get("op", given[position] if len(given) > position else None)
        if op is None or op != dist.ReduceOp.AVG:
            return stock(*args, **kwargs)
        if len(given) > position:
            given[position] = dist.ReduceOp.SUM
        else:
            kwargs["op"] = dist.ReduceOp.SUM
        work = stock(*given, **kwargs)
        if work is not None:
            work.wait()
        output = given[0] if given else next(v for v in kwargs.values() if isinstance(v, torch.Tensor))
        output.div_(dist.get_world_size(kwargs.get("group")))
        return work

    return reducing


def _without(stock: Any, name: str, position: int) -> Any:
    def calling(*args: Any, **kwargs: Any) -> Any:
        kwargs.pop(name, None)
        return stock(*args[:position], **kwargs)

    return calling


def _mesh(stock: Any) -> Any:
    def init_device_mesh(device_type: str, *args: Any, **kwargs: Any) -> Any:
        return stock("cpu" if device_type == "cuda" else device_type, *args, **kwargs)

    return init_device_mesh


def _gpu(device: Any) -> torch.device:
    return torch.device("cuda", device) if isinstance(device, int) else torch.device(device or "cuda")


def scatter(
    tensor: torch.Tensor,
    devices: Any = None,
    chunk_sizes: Any = None,
    dim: int = 0,
    streams: Any = None,
    *,
    out: Any = None,
) -> Any:
    """Pieces of the tensor, one for each device."""
    count = len(devices if out is None else out)
    pieces = tensor.chunk(count, dim) if chunk_sizes is None else tensor.split(list(chunk_sizes), dim)
    if out is not None:
        return tuple(place.copy_(piece) for place, piece in zip(out, pieces, strict=True))
    return tuple(piece.to(_gpu(device)) for piece, device in zip(pieces, devices, strict=False))


def gather(tensors: Any, dim: int = 0, destination: Any = None, *, out: Any = None) -> torch.Tensor:
    """The tensors together on one device."""
    together = torch.cat(list(tensors), dim)
    return together.to(_gpu(destination)) if out is None else out.copy_(together)


def broadcast(tensor: torch.Tensor, devices: Any = None, *, out: Any = None) -> Any:
    """The tensor on each device."""
    if out is not None:
        return tuple(place.copy_(tensor) for place in out)
    return tuple(tensor.to(_gpu(device)) for device in devices)


def broadcast_coalesced(tensors: Any, devices: Any, buffer_size: int = 0) -> Any:
    """The tensors on each device."""
    return [[tensor.to(_gpu(device)) for tensor in tensors] for device in devices]


def reduce_add(inputs: Any, destination: Any = None) -> torch.Tensor:
    """The tensors' sum on one device."""
    return torch.stack([tensor.to(_gpu(destination)) for tensor in inputs]).sum(0)


def reduce_add_coalesced(inputs: Any, destination: Any = None, buffer_size: int = 0) -> Any:
    """The sums of several tensors of each device."""
    return tuple(reduce_add(same, destination) for same in zip(*inputs, strict=True))
