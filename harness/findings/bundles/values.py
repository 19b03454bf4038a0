"""Arguments and modules as JSON with tensors beside it, and back, without pickle and without calling a constructor.

A tensor is a key into the tensors that go beside; a float is its hexadecimal text, so that it comes back to the bit.  A
module is its class, by its import path, its parameters, buffers and modules, and its plain attributes.
"""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import HarnessError, SubjectError, UsageError
from harness.files import shown

MOST_TENSORS = 4096
_DEEPEST = 20  # a module takes three levels of JSON for one of its own
_LONGEST = 10_000
_PLAIN = (type(None), bool, int, str)
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType)
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_HOOKS = tuple(name for name in _OF_EVERY_MODULE if name.endswith("_hooks") and "state_dict" not in name)
Locate = Callable[[Any], str]
"""The import path of a class or function."""
Load = Callable[[str], Any]
"""What an import path names."""


class UnrecordableError(Exception):
    """A value that no file can hold without pickle; the message says which."""


class Encoder:
    """Makes values into JSON, and keeps their tensors, copied to the CPU.

    Args:
        locate: gives import paths.
        largest: bytes that all tensors may have together.
    """

    def __init__(self, locate: Locate, largest: int) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._locate, self._left = locate, largest
        self._keys: dict[int, str] = {}
        self._held: list[Tensor] = []

    def value(self, value: Any, where: str, depth: int = 0) -> Any:
        """The value as JSON.

        Args:
            where: how a message names it.

        Raises:
            UnrecordableError: it, or something in it, can't be recorded.
        """
        if depth > _DEEPEST:
            raise UnrecordableError(f"{where} is nested more than {_DEEPEST} deep")
        if type(value) in _PLAIN:
            return _plain(value, where)
        if type(value) is float:
            return {"float": value.hex()}
        if isinstance(value, Tensor):
            return self._tensor(value, where)
        if isinstance(value, nn.Module):
            return self._module(value, where, depth)
        if type(value) in (list, tuple, torch.Size, set, frozenset):
            return {_SEQUENCES[type(value)]: [self.value(v, f"{where}[…]", depth + 1) for v in _bounded(value, where)]}
        if isinstance(value, dict):
            pairs = _bounded(value.items(), where)
            return {"dict": [[self.value(v, f"{where}[…]", depth + 1) for v in pair] for pair in pairs]}
        if isinstance(value, (torch.dtype, torch.device)):
            return {type(value).__name__: str(value).removeprefix("torch.")}
        return self._named(value, where, depth)

    def _named(self, value: Any, where: str, depth: int) -> Any:
        """What is found again by its import path."""
        if isinstance(value, type):
            return {"class": self._path(value, where)}
        if isinstance(value, _FUNCTIONS):
            return {"function": self._path(value, where)}
        if isinstance(value, enum.Enum):
            return {"enum": self._path(type(value), where), "name": value.name}
        if dataclasses.is_dataclass(value):
            named = [f.name for f in dataclasses.fields(value)]
            inside = {n: self.value(getattr(value, n), f"{where}.{n}", depth + 1) for n in named}
            return {"dataclass": self._path(type(value), where), "fields": inside}
        raise UnrecordableError(f"{where} is of {type(value).__module__}.{type(value).__qualname__}")

    def _path(self, value: Any, where: str) -> str:
        try:
            return self._locate(value)
        except HarnessError as error:
            raise UnrecordableError(f"{where}: {error}".rstrip(".")) from error

    def _tensor(self, tensor: Tensor, where: str) -> Any:
        if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout is not torch.strided or tensor.is_quantized:
            raise UnrecordableError(f"{where} is no plain dense tensor")
        if id(tensor) not in self._keys:
            self._left -= tensor.numel() * tensor.element_size()
            if self._left < 0:
                raise UnrecordableError("its tensors have more bytes than a bundle may")
            if len(self.tensors) >= MOST_TENSORS:
                raise UnrecordableError(f"it has more than {MOST_TENSORS} tensors")
            key = self._keys[id(tensor)] = f"{len(self.tensors)}"
            self._held.append(tensor)
            # Where a pretence is on, the copy is to be a plain CPU tensor.
            with torch.no_grad(), torch._C.DisableTorchFunction():
                self.tensors[key] = tensor.detach().to("cpu").contiguous().clone()
        order = _order(tensor)
        found: dict[str, Any] = {"tensor": self._keys[id(tensor)], "gradient": tensor.requires_grad}
        return found if order is None else {**found, "order": order}

    def _module(self, module: nn.Module, where: str, depth: int) -> Any:
        if any(vars(module).get(name) for name in _HOOKS):
            raise UnrecordableError(f"{where} has hooks")

        def inside(held: Mapping[str, Any]) -> Any:
            return {name: self.value(one, f"{where}.{name}", depth + 1) for name, one in held.items()}

        return {
            "module": self._path(type(module), where),
            "training": module.training,
            "parameters": inside(module._parameters),
            "buffers": inside(module._buffers),
            "modules": inside(module._modules),
            "attributes": inside({n: v for n, v in vars(module).items() if n not in _OF_EVERY_MODULE}),
        }


_SEQUENCES: dict[type, str] = {list: "list", tuple: "tuple", torch.Size: "tuple", set: "set", frozenset: "frozenset"}


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, int) and abs(value) > 2**63:
        raise UnrecordableError(f"{where} is a whole number beyond 64 bits")
    if isinstance(value, str) and (len(value) > _LONGEST or not value.isprintable()):
        raise UnrecordableError(f"{where} is text that is long or not printable")
    return value


def _bounded(values: Any, where: str) -> list[Any]:
    if len(values) > _LONGEST:
        raise UnrecordableError(f"{where} has more than {_LONGEST} entries")
    return list(values)


def _order(tensor: Tensor) -> list[int] | None:
    """The axes from the outermost in memory, where that isn't their own order: kernels differ by it."""
    if tensor.is_contiguous() or not tensor.numel():
        return None
    order = sorted(range(tensor.ndim), key=lambda axis: (-tensor.stride()[axis], axis))
    return order if tensor.permute(order).is_contiguous() else None


class Decoder:
    """Makes values of such JSON.

    Args:
        load: finds what an import path names.
        tensors: those beside it.
        where: how a message names the file.
    """

    def __init__(self, load: Load, tensors: Mapping[str, Tensor], where: str) -> None:
        self._load, self._tensors, self._where = load, tensors, where

    def value(self, node: Any) -> Any:
        """What :meth:`Encoder.value` made into JSON.

        Raises:
            UsageError: it made no such JSON.
            SubjectError: what it names can't be imported, or is something else there.
        """
        if type(node) in _PLAIN:
            return node
        if not isinstance(node, dict) or not node:
            raise self._fail(node)
        kind = next(iter(node))
        make = getattr(self, f"_{kind}", None) if kind in _KINDS else None
        if make is None:
            raise self._fail(node)
        try:
            return make(node)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError, IndexError) as error:
            raise self._fail(node) from error

    def _fail(self, node: Any) -> UsageError:
        return UsageError(f"{self._where}: {shown(node)} is no value of a bundle: the file is damaged.")

    def _float(self, node: Any) -> float:
        return float.fromhex(node["float"])

    def _tensor(self, node: Any) -> Tensor:
        tensor = self._tensors[node["tensor"]]
        if "order" in node:
            order = node["order"]
            if sorted(order) != list(range(tensor.ndim)):
                raise ValueError("no order of axes")
            back = [order.index(axis) for axis in range(tensor.ndim)]
            tensor = tensor.permute(order).contiguous().permute(back)
        return tensor.detach().requires_grad_(bool(node["gradient"]) and tensor.is_floating_point())

    def _list(self, node: Any) -> list[Any]:
        return [self.value(one) for one in node["list"]]

    def _tuple(self, node: Any) -> tuple[Any, ...]:
        return tuple(self.value(one) for one in node["tuple"])

    def _set(self, node: Any) -> set[Any]:
        return {self.value(one) for one in node["set"]}

    def _frozenset(self, node: Any) -> frozenset[Any]:
        return frozenset(self.value(one) for one in node["frozenset"])

    def _dict(self, node: Any) -> dict[Any, Any]:
        return {self.value(key): self.value(one) for key, one in node["dict"]}

    def _dtype(self, node: Any) -> torch.dtype:
        return self._of(getattr(torch, node["dtype"]), torch.dtype, node)

    def _device(self, node: Any) -> torch.device:
        return torch.device(node["device"])

    def _class(self, node: Any) -> type:
        return self._of(self._load(node["class"]), type, node)

    def _function(self, node: Any) -> Any:
        return self._of(self._load(node["function"]), _FUNCTIONS, node)

    def _enum(self, node: Any) -> Any:
        return self._subclass(node["enum"], enum.Enum)[node["name"]]

    def _dataclass(self, node: Any) -> Any:
        kind: Any = self._subclass(node["dataclass"], object)
        names = [f.name for f in dataclasses.fields(kind)]
        if sorted(names) != sorted(node["fields"]):
            raise SubjectError(f"{self._where}: the fields of {node['dataclass']} are others here: {', '.join(names)}.")
        found = object.__new__(kind)
        for name, inside in node["fields"].items():
            object.__setattr__(found, name, self.value(inside))  # it may be frozen
        return found

    def _module(self, node: Any) -> nn.Module:
        kind = self._subclass(node["module"], nn.Module)
        module: nn.Module = kind.__new__(kind)
        nn.Module.__init__(module)
        for name, inside in node["parameters"].items():
            tensor = self.value(inside)
            parameter = None if tensor is None else nn.Parameter(tensor.detach(), tensor.requires_grad)
            module._parameters[str(name)] = parameter
        for name, inside in node["buffers"].items():
            module._buffers[str(name)] = self.value(inside)
        for name, inside in node["modules"].items():
            module._modules[str(name)] = self.value(inside)
        for name, inside in node["attributes"].items():
            if name in _OF_EVERY_MODULE or (name.startswith("__") and name.endswith("__")):
                raise ValueError("no attribute")
            vars(module)[name] = self.value(inside)
        module.training = bool(node["training"])
        return module

    def _subclass(self, path: str, of: type) -> Any:
        kind = self._load(path)
        if not (isinstance(kind, type) and issubclass(kind, of)):
            raise SubjectError(f"{self._where}: {path} is no class of {of.__name__} here.")
        return kind

    def _of(self, found: Any, kind: Any, node: Any) -> Any:
        if not isinstance(found, kind):
            raise SubjectError(f"{self._where}: {shown(node)} is something else here.")
        return found


_KINDS = frozenset(
    ("float", "tensor", "list", "tuple", "set", "frozenset", "dict", "dtype", "device", "class", "function", "enum",
     "dataclass", "module")
)  # fmt: skip
