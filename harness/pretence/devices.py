"""Device arguments and device answers: ``"cuda"`` is taken for the CPU, and remembered.

A ``TorchFunctionMode`` sees every call of torch with a tensor, or of a function that makes one, whatever name it was
imported under.  It belongs to its thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _device

from harness.pretence.placement import HOST, Placement
from harness.pretence.refusals import refuse

Special = Callable[["DeviceMode", Any, tuple[Any, ...], dict[str, Any]], Any]
_NOT_GIVEN = object()


class DeviceMode(TorchFunctionMode):
    """Runs what is asked of a pretended GPU on the CPU."""

    def __init__(self, placement: Placement) -> None:
        super().__init__()
        self.placement = placement

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if not self.placement.active:
            return func(*args, **(kwargs or {}))
        special = _SPECIAL.get(func)
        if special is not None:
            return special(self, func, args, kwargs or {})
        if kwargs and kwargs.get("pin_memory"):
            made = self.__torch_function__(func, types, args, {**kwargs, "pin_memory": False})
            self.placement.pin(made)
            return made
        target = None
        if kwargs and (device := kwargs.get("device")) is not None:
            target = self.placement.index(device)
            if target is not None:
                kwargs = {**kwargs, "device": "cpu"}
        elif _device.CURRENT_DEVICE is not None and func in _device._device_constructors():
            # Torch's own mode for this lies under ours, and would ask for the GPU.
            target = self.placement.index(_device.CURRENT_DEVICE)
            if target is not None:
                kwargs = {**(kwargs or {}), "device": "cpu"}
        result = func(*args, **kwargs) if kwargs else func(*args)
        return self.noted(result, target, args, kwargs)

    def noted(self, result: Any, target: int | None, args: tuple[Any, ...], kwargs: Any = None) -> Any:
        """The result, noted as on the GPU if that was asked for (``target``), or if its inputs are."""
        if isinstance(result, Tensor):
            tensors: Any = (result,)
        elif isinstance(result, (tuple, list)) and not isinstance(result, torch.Size):
            tensors = [r for r in result if isinstance(r, Tensor)]
            if not tensors:
                return result
        else:
            return result
        if target is None:
            target = self.placement.first(args)
            if target == HOST and kwargs:
                target = self.placement.first(kwargs.values())
        if target != HOST:
            for tensor in tensors:
                # What is changed in place stays where it is, whatever is copied into it.
                if tensor.is_cpu and id(tensor) not in map(id, args):
                    self.placement.note(tensor, target)
        return result

    def moved(self, tensor: Tensor, target: int, **how: Any) -> Tensor:
        """The tensor on another device: a copy if it isn't there yet, itself if it is, as torch has it."""
        if tensor.device.type != "cpu":
            return tensor.to("cpu", **how)
        if self.placement.of(tensor) != target:
            how["copy"] = True
        result = tensor.to("cpu", **how)
        if target != HOST:
            self.placement.note(result, target)
        return result


def _to(mode: DeviceMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensor, given = args[0], args[1:]
    first: Any = given[0] if given else kwargs.get("device", kwargs.get("tensor"))
    if isinstance(first, Tensor):
        target: int | None = mode.placement.of(first) if first.device.type == "cpu" else None
        rest: tuple[Any, ...] = (first.dtype, *given[1:])
        kwargs = {k: v for k, v in kwargs.items() if k != "tensor"}
    elif isinstance(first, torch.dtype):
        target = mode.placement.index(kwargs.get("device"))
        rest = given
    else:
        target = mode.placement.index(first)
        rest = given[1:]
    if target is None:
        return mode.noted(func(*args, **kwargs), None, args)
    names = ("dtype", "non_blocking", "copy")
    how = {**dict(zip(names, rest, strict=False)), **{k: v for k, v in kwargs.items() if k != "device"}}
    return mode.moved(tensor, target, **{k: v for k, v in how.items() if v is not None})


def _cuda(mode: DeviceMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    device = kwargs.get("device", args[1] if len(args) > 1 else None)
    target = mode.placement.index("cuda" if device is None else device)
    if target in (None, HOST):
        raise RuntimeError(f"Invalid device, must be cuda device, got {device}")
    memory_format = {k: v for k, v in kwargs.items() if k == "memory_format"}
    return mode.moved(args[0], target, **memory_format)


def _cpu(mode: DeviceMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return mode.moved(args[0], HOST, **{k: v for k, v in kwargs.items() if k == "memory_format"})


def _device_of(mode: DeviceMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    real = func(*args)
    index = mode.placement.seen_as(args[0]) if real.type == "cpu" else HOST
    return real if index == HOST else torch.device("cuda", index)


def _is_cuda(mode: DeviceMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0].device.type == "cpu" and mode.placement.seen_as(args[0]) != HOST


def _is_cpu(mode: DeviceMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0].device.type == "cpu" and mode.placement.seen_as(args[0]) == HOST


def _get_device(mode: DeviceMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    index = mode.placement.seen_as(args[0])
    return func(*args) if index == HOST else index


def _type(mode: DeviceMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    wanted = kwargs.get("dtype", args[1] if len(args) > 1 else None)
    here = mode.placement.of(args[0])
    if wanted is None:
        name = func(*args)
        return name if here == HOST else name.replace("torch.", "torch.cuda.", 1)
    name = wanted if isinstance(wanted, str) else getattr(wanted, "pretended_name", "")
    if name.startswith("torch.cuda."):
        host = name.replace("torch.cuda.", "torch.", 1)
        return mode.moved(func(args[0], host), here if here != HOST else mode.placement.current)
    if isinstance(wanted, torch.dtype):
        return mode.noted(func(*args, **kwargs), None, args)
    return mode.moved(func(*args, **kwargs), HOST)


def _pin_memory(mode: DeviceMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensor = args[0]
    if mode.placement.of(tensor) != HOST:
        raise RuntimeError(
            f"cannot pin '{_type(mode, Tensor.type, (tensor,), {})}' only dense CPU tensors can be pinned"
        )
    if mode.placement.is_pinned(tensor):
        return tensor
    pinned = tensor.clone()
    mode.placement.pin(pinned)
    return pinned


def _is_pinned(mode: DeviceMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return mode.placement.is_pinned(args[0])


def _cuda_array(mode: DeviceMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if mode.placement.of(args[0]) == HOST:
        return func(*args)
    return refuse("Tensor.__cuda_array_interface__", "there is memory of a GPU")


def _make_device(mode: DeviceMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if len(args) == 1 and isinstance(args[0], int) and not isinstance(args[0], bool):
        return torch.device("cuda", args[0])
    return func(*args, **kwargs)


def _parse_to(mode: DeviceMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """How ``Module.to`` reads its arguments: a number is a GPU's."""
    numbered = args and isinstance(args[0], int) and not isinstance(args[0], bool)
    return func(torch.device("cuda", args[0]), *args[1:], **kwargs) if numbered else func(*args, **kwargs)


def _made_of_data(mode: DeviceMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``torch.tensor``, and those that take the data over instead of copying it."""
    device = kwargs.get("device", _device.CURRENT_DEVICE)
    data = args[0] if args else kwargs.get("data", kwargs.get("obj"))
    target = mode.placement.index(device)
    if kwargs.get("device") is None and isinstance(data, Tensor):
        target = None if _device.CURRENT_DEVICE is None else target
    if target is not None:
        kwargs = {**kwargs, "device": "cpu"}
    result = func(*args, **kwargs)
    here = mode.placement.of(result)
    if target is None:
        # A list of tensors on the GPU makes a tensor on the CPU.
        target = mode.placement.of(data) if isinstance(data, Tensor) else HOST
    if func is not torch.tensor and target != here:
        result = result.clone()
    if target != HOST:
        mode.placement.note(result, target)
    return result


def _packed(mode: DeviceMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The sizes of a packed sequence's batches are always on the CPU."""
    data, sizes = func(*args, **kwargs)
    return mode.noted(data, None, args), sizes


def _backward(mode: DeviceMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """With the mode on: hooks, custom functions and checkpoints run in it."""
    names = ("gradient", "retain_graph", "create_graph", "inputs")
    given = {**dict(zip(names, args[1:], strict=False)), **kwargs}
    grad = given.pop("gradient", None)
    with mode:
        torch.autograd.backward(args[0], grad, **given)


def _representation(mode: DeviceMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    if type(args[0]).__repr__ is not Tensor.__repr__ and not isinstance(args[0], torch.nn.Parameter):
        return func(*args, **kwargs)
    with mode:
        return torch._tensor_str._str(args[0], **kwargs)


def _attention(mode: DeviceMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Of the kernels that a script may ask for, a CPU has two only."""
    backends = torch.backends.cuda
    if backends.math_sdp_enabled():
        return mode.noted(func(*args, **kwargs), None, args, kwargs)
    backends.enable_math_sdp(True)
    try:
        return mode.noted(func(*args, **kwargs), None, args, kwargs)
    finally:
        backends.enable_math_sdp(False)


def _getter(name: str) -> Any:
    return getattr(vars(torch._C.TensorBase).get(name, vars(Tensor).get(name)), "__get__", _NOT_GIVEN)


_SPECIAL: dict[Any, Special] = {
    Tensor.to: _to,
    Tensor.cuda: _cuda,
    Tensor.cpu: _cpu,
    _getter("device"): _device_of,
    _getter("is_cuda"): _is_cuda,
    _getter("is_cpu"): _is_cpu,
    _getter("__cuda_array_interface__"): _cuda_array,
    Tensor.get_device: _get_device,
    getattr(torch, "get_device", None): _get_device,
    Tensor.type: _type,
    Tensor.pin_memory: _pin_memory,
    Tensor.is_pinned: _is_pinned,
    torch.device: _make_device,
    torch._C._nn._parse_to: _parse_to,
    torch.tensor: _made_of_data,
    torch.as_tensor: _made_of_data,
    torch.asarray: _made_of_data,
    torch._VF._pack_padded_sequence: _packed,
    Tensor.backward: _backward,
    Tensor.__repr__: _representation,
    torch.nn.functional.scaled_dot_product_attention: _attention,
}
