"""A call of a loss: seen with its inputs, judged by its value, and made into what a file can hold."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from harness.errors import HarnessError
from harness.findings.bundles.bundle import Bundle, Conditions, RecordedLoss
from harness.findings.bundles.replay import Replayer
from harness.findings.bundles.values import Encoder, UnrecordableError
from harness.oracle.levels import SSIM_VALUE_NOISE
from harness.precision.cuda_policy.casting import THREAD
from harness.pretence.placement import real_device
from harness.watching.import_paths import ImportPaths, folder_of
from harness.watching.options import WatchOptions


@dataclass
class LossCall:
    """One call, with its inputs as they are when it is made.

    Attributes:
        subject: the module or function.
        inputs, named: its arguments.
        versions: of the tensors among the arguments: how often each was changed in place.
        where: the script's line.
        conditions: what surrounds it; known once its value is wanted, as an autocast that is on before a call is on
            after it.
        value: what it gave; NaN before.
    """

    subject: Any
    inputs: tuple[Any, ...]
    named: Mapping[str, Any]
    versions: list[int | None]
    where: str = ""
    conditions: Conditions | None = None
    value: float = field(default=float("nan"))

    @staticmethod
    def of(subject: Any, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> LossCall:
        return LossCall(subject, inputs, named, [_version(t) for t in _tensors(inputs, named)])

    def surrounded(self) -> Conditions:
        """Right after the call: what surrounds it."""
        if self.conditions is None:
            self.conditions = conditions_now(_tensors(self.inputs, self.named))
        return self.conditions

    def let_go_of_graphs(self) -> None:
        """Keep the inputs' numbers alone, until the value has come from a GPU."""
        self.surrounded()
        self.inputs, self.named = tree_map(_alone, (self.inputs, dict(self.named)))

    @property
    def inputs_changed(self) -> bool:
        """An input was changed in place since."""
        return [_version(t) for t in _tensors(self.inputs, self.named)] != self.versions

    @property
    def name(self) -> str:
        """Of the class or function, for a message."""
        return getattr(self.subject, "__qualname__", None) or type(self.subject).__qualname__


@dataclass(frozen=True)
class Judged:
    """What is wrong with a loss, in words, and the range that it left; with the recorded call, or why there is none."""

    rule: str
    violation: str
    loss: RecordedLoss | None
    tensors: Mapping[str, Tensor]
    unrecorded: str


def judged(call: LossCall, options: WatchOptions, paths: ImportPaths) -> Judged | None:
    """What is wrong with a call whose value has come; ``None`` for nothing."""
    low, high = options.low, options.high
    by_sign = (low, high) == (None, None)
    found, tensors, unrecorded = _recorded(call, options, paths, 0.0 if by_sign else low, high)
    said = _violation(call.value, 0.0 if by_sign else low, high)
    if said is None:
        return None
    rule = "loss-finite" if said == "is not finite" else "loss-range"
    if by_sign and rule == "loss-range":
        # A loss may well be negative, as a likelihood is. This one is wrong only if float64 says otherwise.
        exact = None if found is None else _exact(found, tensors, paths)
        if exact is None or exact < 0.0 or exact - call.value <= SSIM_VALUE_NOISE:
            return None
        said = f"is under 0, while in float64 it is {exact:.6g}"
    return Judged(rule, said, found, tensors, unrecorded)


def _violation(value: float, low: float | None, high: float | None) -> str | None:
    nothing = Conditions("cpu", None, False, True, 1, "highest", "")
    return RecordedLoss("", None, None, (), {}, value, low, high, nothing).violation(value)


def _recorded(
    call: LossCall, options: WatchOptions, paths: ImportPaths, low: float | None, high: float | None
) -> tuple[RecordedLoss | None, Mapping[str, Tensor], str]:
    if call.inputs_changed:
        return None, {}, "its inputs were changed in place before its value was known"
    encoder = Encoder(paths.of, options.largest)
    try:
        subject = encoder.value(call.subject, call.name)
        inputs = [encoder.value(value, f"argument {index}") for index, value in enumerate(call.inputs)]
        named = {name: encoder.value(value, name) for name, value in call.named.items()}
        kind = call.subject if hasattr(call.subject, "__qualname__") else type(call.subject)
        path = paths.of(kind)
    except (UnrecordableError, HarnessError) as error:
        return None, {}, str(error).rstrip(".")
    loss = RecordedLoss(path, folder_of(path), subject, inputs, named, call.value, low, high, call.surrounded())
    return loss, encoder.tensors, ""


def _exact(loss: RecordedLoss, tensors: Mapping[str, Tensor], paths: ImportPaths) -> float | None:
    """Its float64 value, of a copy of the loss, in this process: no random number of the script's is drawn."""
    with _same_random_numbers():
        bundle = Bundle("", "", loss=loss, tensors=tensors)
        return Replayer(bundle, loss.name, "float32", load=paths.known.__getitem__).exact(tensors)


@contextmanager
def _same_random_numbers() -> Iterator[None]:
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)


def conditions_now(tensors: list[Tensor]) -> Conditions:
    """What surrounds a call with these tensors."""
    device = "cuda" if any(real_device(t) == "cuda" for t in tensors) else "cpu"
    emulated = THREAD.depth > 0
    which = "cuda" if emulated else device
    dtype = str(torch.get_autocast_dtype(which)).removeprefix("torch.") if torch.is_autocast_enabled(which) else None
    return Conditions(
        device, dtype, emulated and dtype is not None, torch.is_grad_enabled(), torch.get_num_threads(),
        torch.get_float32_matmul_precision(), torch.__version__,
    )  # fmt: skip


def is_a_loss(found: Any, with_gradient: bool) -> bool:
    """Whether what a call gave is a loss: a single floating number, with a gradient where that is asked for."""
    if not isinstance(found, Tensor) or found.numel() != 1 or not found.is_floating_point():
        return False
    return found.requires_grad or not with_gradient


def _tensors(inputs: tuple[Any, ...], named: Mapping[str, Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for value in (*inputs, *named.values()):
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple, dict)):
            found += [leaf for leaf in tree_flatten(value)[0] if isinstance(leaf, Tensor)]
    return found


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _alone(value: Any) -> Any:
    return value.detach().requires_grad_(value.requires_grad) if isinstance(value, Tensor) else value


Check = Callable[[LossCall], None]
