"""Which dtype an op's output has under CUDA autocast, asked of torch's own CUDA autocast kernels.

Fake tensors carry a device and a dtype but no data, so torch's AutocastCUDA kernels run on them on any
machine. They tell dtypes and nothing else: no value, no error that depends on one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map, tree_map_only

from harness.errors import describe_exception
from harness.precision.cuda_policy import entry_points
from harness.precision.cuda_policy.errors import OracleUnavailableError

_NEEDS_DATA = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
# What an op says that looks for the GPU itself: in a CPU build, and in a CUDA build without a driver.
_WITHOUT_GPU = (
    "not compiled with CUDA",
    "not linked with support for cuda",
    "Found no NVIDIA driver",
    "CUDA driver version is insufficient",
    "No CUDA GPUs are available",
)


def expected_dtype(
    op: Callable[..., Any],
    args: Sequence[Any],
    dtype: torch.dtype,
    kwargs: Mapping[str, Any] | None = None,
) -> Any:
    """The output dtype of ``op(*args, **kwargs)`` on CUDA tensors under ``torch.autocast("cuda", dtype)``.

    Args:
        op: a ``torch.ops.aten`` overload or any function of tensors.
        args: real tensors of any device stand for CUDA tensors of their shape and dtype; everything else is
            passed on.
        dtype: the autocast dtype.
        kwargs: as args.

    Returns:
        A dtype for each tensor in the output, in the output's own structure.

    Raises:
        OracleUnavailableError: the op cannot run without its data, or looks for a GPU or a kernel that isn't here.
        RuntimeError: whatever the op raises under CUDA autocast; a banned op raises so.
    """
    with FakeTensorMode() as mode, _real_cuda_autocast(dtype):
        fake_args, fake_kwargs = tree_map_only(Tensor, lambda t: _as_cuda(t, mode), (list(args), dict(kwargs or {})))
        try:
            out = op(*fake_args, **fake_kwargs)
        except Exception as e:
            if not _is_unavailable(e):
                raise
            raise OracleUnavailableError(
                f"{op} doesn't run on fake tensors here ({describe_exception(e)}): ask expected_casts, or compare on a "
                "GPU with python -m harness.precision.cuda_policy.proofs.gpu_comparison."
            ) from e
        return tree_map(lambda x: x.dtype if isinstance(x, Tensor) else x, out)


def expected_casts(
    op: Callable[..., Any],
    args: Sequence[Any],
    dtype: torch.dtype,
    kwargs: Mapping[str, Any] | None = None,
) -> list[torch.dtype]:
    """The dtypes that CUDA autocast casts inputs of ``op`` to, in order. Arguments as for `expected_dtype`.

    It needs the casts alone, and so also answers for ops that `expected_dtype` cannot run.
    """
    with FakeTensorMode() as mode, _real_cuda_autocast(dtype):
        fake_args, fake_kwargs = tree_map_only(Tensor, lambda t: _as_cuda(t, mode), (list(args), dict(kwargs or {})))
        return casts_made(lambda: op(*fake_args, **fake_kwargs))


def casts_made(run: Callable[[], Any]) -> list[torch.dtype]:
    """The dtypes of the casts at the start of ``run``, which may fail after them for want of a GPU."""
    log = _LeadingCasts()
    try:
        with log:
            run()
    except Exception as e:
        if not _is_unavailable(e):
            raise
    return log.dtypes


class _LeadingCasts(TorchDispatchMode):
    """Notes the casts that come before the first op that is not one."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: list[torch.dtype] = []
        self._leading = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and self._leading:
            self.dtypes.append(kwargs["dtype"])
        elif func.namespace == "aten":  # and not prim, which asks a fake tensor for its device
            self._leading = False
        return func(*args, **kwargs)


def _is_unavailable(error: Exception) -> bool:
    return isinstance(error, (*_NEEDS_DATA, NotImplementedError)) or any(s in str(error) for s in _WITHOUT_GPU)


def _as_cuda(x: Tensor, mode: FakeTensorMode) -> Tensor:
    with mode, torch.no_grad():
        fake = torch.empty_strided(x.size(), x.stride(), dtype=x.dtype, device="cuda")
    return fake.requires_grad_(x.requires_grad)


@contextmanager
def _real_cuda_autocast(dtype: torch.dtype) -> Iterator[None]:
    """CUDA autocast on and CPU autocast off, whatever was there. ``torch.autocast`` would look for a GPU."""
    before = [(d, torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in entry_points.DEVICES]
    try:
        entry_points.set_enabled("cpu", False)
        entry_points.set_enabled("cuda", True)
        entry_points.set_dtype("cuda", dtype)
        yield
    finally:
        for device, enabled, old in before:
            entry_points.set_enabled(device, enabled)
            entry_points.set_dtype(device, old)
