"""A bundle's loss, run again: as it was recorded, or under another precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from harness.errors import SubjectError, UsageError, describe_exception, reraise_unless_subjects
from harness.findings.bundles.bundle import Bundle, Conditions, RecordedLoss
from harness.findings.bundles.values import Decoder
from harness.precision import Precision, import_guard, precisions_named
from harness.process_state import kept_state
from harness.subjects.door import load_object

_AS_RECORDED = "float32"  # the precision that changes nothing: no autocast, and inputs as they are


@dataclass(frozen=True)
class Rerun:
    """What the loss gives now.

    Attributes:
        value: under the precision.
        violation: what is wrong with it, in words; ``None`` for nothing.
        same: it is the recorded value, to the last bit.
        exact: its float64 value of the same inputs; ``None`` where it takes none.
        conditions: under which it ran; ``precision`` names them.
    """

    value: float
    violation: str | None
    same: bool
    exact: float | None
    precision: str
    conditions: Conditions


class Replayer:
    """Runs the loss of a bundle, on its own inputs or on others.

    Args:
        where: how messages name the bundle.
        precision: by name; ``None`` for what was recorded, on this machine: without a GPU, CUDA's autocast is emulated.
        root: the folder that the loss is imported from, instead of the recorded one.
        load: gives what an import path names, instead of importing it.

    Raises:
        UsageError: there is no loss in the bundle, or no such precision.
        PrecisionError: this machine can't run it.
    """

    def __init__(
        self,
        bundle: Bundle,
        where: str,
        precision: str | None = None,
        root: str | None = None,
        load: Callable[[str], Any] | None = None,
    ) -> None:
        if bundle.loss is None:
            why = f": {bundle.unrecorded}" if bundle.unrecorded else ""
            raise UsageError(f"{where} holds no call of a loss that could be run again{why}; its windows say the rest.")
        self.loss: RecordedLoss = bundle.loss
        self.tensors: Mapping[str, Tensor] = bundle.tensors
        recorded = self.loss.conditions.precision
        (self.precision,) = precisions_named([precision or _to_be_had(self.loss.conditions)])
        self._cast = precision is not None and precision != recorded
        self._where = where
        own = self.loss.root
        self._load = load
        self._root = root if root is not None else own if own is not None and Path(own).is_dir() else None

    def run(self, tensors: Mapping[str, Tensor] | None = None) -> Rerun:
        """Run it.

        Args:
            tensors: instead of the bundle's.

        Raises:
            SubjectError: the loss can't be imported, is another here, raises, or gives no number.
            UsageError: the bundle is damaged.
        """
        tensors = self.tensors if tensors is None else tensors
        value = self._value(tensors, self.precision, None)
        loss = self.loss
        same = value == loss.value or (math.isnan(value) and math.isnan(loss.value))
        return Rerun(value, loss.violation(value), same, self.exact(tensors), self.precision.name, self._conditions())

    def value(self, tensors: Mapping[str, Tensor]) -> float:
        """What it gives of these; NaN is a value.

        Raises:
            SubjectError, UsageError: as :meth:`run`.
        """
        return self._value(tensors, self.precision, None)

    def exact(self, tensors: Mapping[str, Tensor]) -> float | None:
        """What it gives in float64; ``None`` where it gives nothing."""
        try:
            return self._value(tensors, precisions_named([_AS_RECORDED])[0], torch.float64)
        except SubjectError:
            return None

    def _value(self, tensors: Mapping[str, Tensor], precision: Precision, dtype: torch.dtype | None) -> float:
        loss, conditions = self.loss, self.loss.conditions

        def prepared(tensor: Tensor) -> Tensor:
            wanted = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
            return tensor.to(precision.device, wanted, copy=True)

        def cast(value: Any) -> Any:
            is_input = isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float64
            return value.to(precision.input_dtype) if is_input else value

        decoder = Decoder(
            self._load or self._imported, {key: prepared(tensor) for key, tensor in tensors.items()}, self._where
        )
        with ExitStack() as stack:
            stack.enter_context(kept_state())
            torch.set_num_threads(conditions.threads)
            torch.set_float32_matmul_precision(conditions.matmul)
            with import_guard() if self._load is None else nullcontext():
                subject = decoder.value(loss.subject)
                inputs = [decoder.value(node) for node in loss.inputs]
                named = {name: decoder.value(node) for name, node in loss.named.items()}
            if self._cast and dtype is None:
                inputs, named = tree_map(cast, (inputs, named))
            if not callable(subject):
                raise UsageError(f"{self._where}: its loss can't be called: the file is damaged.")
            stack.enter_context(precision.installed())
            stack.enter_context(torch.set_grad_enabled(conditions.gradients))
            stack.enter_context(precision.context())
            try:
                found = subject(*inputs, **named)
            except BaseException as error:
                reraise_unless_subjects(error)
                raise SubjectError(f"{self._where}: {loss.name} raises {describe_exception(error)}.") from error
            if not isinstance(found, Tensor) or found.numel() != 1:
                raise SubjectError(f"{self._where}: {loss.name} gives no single number here.")
            return float(found.detach())

    def _imported(self, path: str) -> Any:
        return load_object(path, self._root)

    def _conditions(self) -> Conditions:
        precision, recorded = self.precision, self.loss.conditions
        dtype = precision.autocast_dtype
        return replace(
            recorded,
            device=precision.device,
            autocast=None if dtype is None else str(dtype).removeprefix("torch."),
            emulated=precision.cuda_policy,
            torch=torch.__version__,
        )


def _to_be_had(conditions: Conditions) -> str:
    """The recorded precision, or what stands for it without a GPU."""
    if conditions.device == "cpu" or torch.cuda.is_available():
        return conditions.precision
    return f"cuda-policy-{conditions.autocast}" if conditions.autocast else "float32"
