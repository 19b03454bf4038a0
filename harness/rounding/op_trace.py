"""Op by op: the dtypes that a function computes in, the range of its values, and where it loses its digits.

    with emulate_cuda_autocast(torch.bfloat16):
        trace = record_ops(ssim, x, y)
    print(format_trace(trace))

Each op is run three times: as it is; in float64 on its actual inputs, which gives the op's own error; and in
float64 on the float64 results of the ops before it, which gives the error accumulated so far. The recorder
sits below autocast and sees its casts as ops of their own. It keeps every intermediate tensor and its
float64 twin until the trace is done.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.errors import HarnessError, describe_exception
from harness.precision import cuda_policy
from harness.rounding.cancellation import Loss, operands_of, subtraction_loss
from harness.rounding.mismatch import Mismatch, Result, find_mismatches
from harness.rounding.shadow import Shadows, Twin, exact_copy, is_view, like_strides, reference

# A product doubles a relative error, which the count of roundings does not see.
_MARGIN = 2.0
_PASSES_ON = frozenset({"_to_copy", "view", "_unsafe_view", "t", "transpose", "slice", "select", "expand", "clone"})


@dataclass(frozen=True)
class TensorNote:
    """One tensor of an op: its dtype, shape, and the range of its finite values (nan where it has none)."""

    dtype: str
    shape: tuple[int, ...]
    low: float
    high: float
    not_finite: int


@dataclass(frozen=True)
class OpRecord:
    """One op. Errors are largest absolute differences, in the units of the op's output; nan where it is not
    finite.

    Attributes:
        index: position in the trace.
        op: the aten op, e.g. ``convolution``.
        where: the line that called it, ``file:line``, or "" where no line outside torch did.
        inputs, outputs: its tensors.
        parents: for each input, the index of the op that made it; -1 for a tensor from outside.
        own_error: difference from the op run in float64 on its actual inputs.
        error: difference from the float64 run of the whole function.
        expected_error: what the roundings on the longest way here should give at most, to first order.
        rounding: unit roundoff of the coarsest dtype on the way here.
        digits_lost: decimal digits that a subtraction cancelled, at most those its operands' dtype has.
        share_lost: share of the elements that lost a digit or more, in [0, 1].
        is_view: whether the op only looks at its input in another shape.
        around: whether the op is of the code around the function, which stands out for nothing.
        error_map: |output - float64| averaged over all but the last two dimensions, where maps were asked
            for.
    """

    index: int
    op: str
    where: str
    inputs: tuple[TensorNote, ...]
    outputs: tuple[TensorNote, ...]
    parents: tuple[int, ...]
    own_error: float
    error: float
    expected_error: float
    rounding: float
    digits_lost: float
    share_lost: float
    is_view: bool
    around: bool = False
    error_map: Tensor | None = field(default=None, repr=False, compare=False)

    @property
    def exceeds(self) -> bool:
        """Whether the error is more than the dtypes should give, or is no number at all."""
        return not self.around and not self.error <= self.expected_error

    @property
    def cancels(self) -> bool:
        """Whether a subtraction lost a digit or more of operands that were not exact."""
        return not self.around and self.digits_lost >= 1 and self.error != 0


@dataclass(frozen=True)
class Trace:
    """The ops of one run in order, what stands out among them, and what the run returned.

    Attributes:
        result: what was returned; ``None`` where the run raised.
        exact: of a tensor, the same ops' result in float64.
        raised: what the run raised, in words, or empty.
    """

    records: tuple[OpRecord, ...]
    mismatches: tuple[Mismatch, ...]
    result: Any = field(default=None, repr=False, compare=False)
    exact: Tensor | None = field(default=None, repr=False, compare=False)
    raised: str = ""

    @property
    def first_excess(self) -> OpRecord | None:
        """The first op whose error exceeds what its dtypes should give."""
        return next((r for r in self.records if r.exceeds), None)

    @property
    def cancellations(self) -> tuple[OpRecord, ...]:
        """The subtractions that lost a digit or more."""
        return tuple(r for r in self.records if r.cancels)

    def operands(self, record: OpRecord) -> tuple[OpRecord, ...]:
        """The ops that computed a record's inputs, seen through views and casts. Inputs from outside have
        none.
        """
        return tuple(self._source(p) for p in record.parents if p >= 0)

    def _source(self, index: int) -> OpRecord:
        record = self.records[index]
        while record.op in _PASSES_ON and record.parents and record.parents[0] >= 0:
            record = self.records[record.parents[0]]
        return record


def record_ops(
    run: Callable[..., Any],
    *args: Any,
    maps: bool = False,
    around: Sequence[Path] = (),
    keep_raised: bool = False,
    **kwargs: Any,
) -> Trace:
    """Runs ``run(*args, **kwargs)`` once, under whatever context is current, and traces its ops.

    Ops that have no float64 twin (random ops, sparse tensors) count as exact.

    Args:
        run: the code to explain. Its result is kept in the trace.
        maps: keep an error map of each floating output of two dimensions or more.
        around: files and folders whose own ops are not the code's to explain: whoever calls it.
        keep_raised: end the trace where ``run`` raises, and keep what; else errors are raised as they are. An
            interrupt from the keyboard is, always.
    """
    recorder = _Recorder(maps, tuple(str(path) for path in around))
    result, raised = None, ""
    try:
        with recorder:
            result = run(*args, **kwargs)
    except BaseException as error:
        if not keep_raised or isinstance(error, (HarnessError, KeyboardInterrupt)):
            raise
        raised = describe_exception(error)
    with torch._C._DisableAutocast(), torch.no_grad():
        parents = [r.parents for r in recorder.records]
        exact = recorder.exact(result) if isinstance(result, Tensor) else None
        return Trace(tuple(recorder.records), find_mismatches(recorder.results, parents), result, exact, raised)


class _Recorder(TorchDispatchMode):
    def __init__(self, maps: bool, around: tuple[str, ...]) -> None:
        super().__init__()
        self.records: list[OpRecord] = []
        self.results: list[Result] = []
        self._shadows = Shadows()
        self._maps, self._around = maps, around

    def exact(self, t: Tensor) -> Tensor:
        """A tensor's float64 twin."""
        return self._shadows.of(t).exact

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace != "aten":
            return func(*args, **kwargs)
        with torch._C._DisableAutocast(), torch.no_grad():
            # Before the op, which may change its inputs in place.
            inputs = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
            notes, twins = tuple(_note(t) for t in inputs), [self._shadows.of(t) for t in inputs]
            operands = operands_of(func, args, kwargs)
            own, true = reference(func, args, kwargs), self._shadows.run(func, args, kwargs)
        out = func(*args, **kwargs)
        with torch._C._DisableAutocast(), torch.no_grad():
            outputs = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
            exact = _twins_of(outputs, true)
            rounding, depth = _roundings(func, inputs, twins, outputs)
            for t, e in zip(outputs, exact, strict=True):
                self._shadows.keep(t, Twin(e, len(self.records), rounding, depth, t), written=not is_view(func))
            lost = subtraction_loss(operands, outputs[0]) if operands and outputs else Loss(0.0, 0.0)
            floating = [(t, e) for t, e in zip(outputs, exact, strict=True) if t.is_floating_point()]
            scale = max((_largest(e) for _, e in floating), default=0.0)
            file, line = _calling_line()
            self.records.append(
                OpRecord(
                    index=len(self.records),
                    op=func.name().removeprefix("aten::").split(".")[0],
                    where=f"{'/'.join(Path(file).parts[-2:])}:{line}" if file else "",
                    inputs=notes,
                    outputs=tuple(_note(t) for t in outputs),
                    parents=tuple(t.maker for t in twins),
                    own_error=_furthest(outputs, _twins_of(outputs, own)),
                    error=_furthest(outputs, exact),
                    expected_error=_MARGIN * depth * rounding * scale,
                    rounding=rounding,
                    digits_lost=lost.digits,
                    share_lost=lost.share,
                    is_view=is_view(func),
                    around=bool(self._around) and file.startswith(self._around),
                    error_map=_error_map(*floating[0]) if self._maps and floating else None,
                )
            )
            record = self.records[-1]
            if floating and not (record.is_view or record.around or record.op in _PASSES_ON):
                self.results.append(Result(record.index, *floating[0]))
        return out


def _twins_of(outputs: list[Tensor], wide: Any) -> list[Tensor]:
    """The float64 outputs that belong to the op's; where there are none that fit, it counts as exact."""
    leaves = [t for t in tree_leaves(wide) if isinstance(t, Tensor)]
    if len(leaves) != len(outputs):
        return [exact_copy(t) for t in outputs]
    return [like_strides(w, t) if w.shape == t.shape else exact_copy(t) for t, w in zip(outputs, leaves, strict=True)]


def _roundings(func: Any, inputs: list[Tensor], twins: list[Twin], outputs: list[Tensor]) -> tuple[float, int]:
    """The coarsest roundoff and the number of roundings on the longest way through this op."""
    rounding = max((t.rounding for t in twins), default=0.0)
    depth = max((t.depth for t in twins), default=0)
    floating = [t for t in outputs if t.is_floating_point()]
    if is_view(func) or not floating or not inputs:
        return rounding, depth
    own = max(torch.finfo(t.dtype).eps / 2 for t in floating)
    return max(rounding, own), depth + 1 + math.ceil(math.log2(_terms(func, inputs, floating[0])))


def _terms(func: Any, inputs: list[Tensor], output: Tensor) -> int:
    """How many numbers are summed into one."""
    name = func.name().removeprefix("aten::").split(".")[0]
    if "convolution" in name and len(inputs) > 1:
        return max(inputs[1][0].numel(), 1)
    if name in ("mm", "bmm", "addmm", "baddbmm", "mv", "dot"):
        return max(inputs[-2].shape[-1], 1)
    return max(inputs[0].numel() // max(output.numel(), 1), 1)


def _note(t: Tensor) -> TensorNote:
    values = t.detach()
    values = values.abs() if values.is_complex() else values
    finite = values[values.isfinite()] if values.is_floating_point() else values
    low, high = (finite.min().item(), finite.max().item()) if finite.numel() else (math.nan, math.nan)
    dtype = str(t.dtype).removeprefix("torch.")
    return TensorNote(dtype, tuple(t.shape), float(low), float(high), values.numel() - finite.numel())


def _furthest(outputs: list[Tensor], exact: list[Tensor]) -> float:
    """The largest difference among floating outputs. Two equal infinities do not differ, nor do two NaN."""
    furthest = 0.0
    for t, e in zip(outputs, exact, strict=True):
        if t.is_floating_point() and t.numel():
            same = (t.double() == e) | (t.isnan() & e.isnan())
            apart = torch.where(same, 0.0, (t.double() - e).abs()).max().item()
            furthest = apart if math.isnan(apart) else max(furthest, apart)
    return furthest


def _largest(t: Tensor) -> float:
    """Of what is finite."""
    finite = t[t.isfinite()]
    return finite.abs().max().item() if finite.numel() else 0.0


def _error_map(t: Tensor, exact: Tensor) -> Tensor | None:
    if t.dim() < 2:
        return None
    return (t.double() - exact).abs().flatten(0, -3).mean(0) if t.dim() > 2 else (t.double() - exact).abs()


def _calling_line() -> tuple[str, int]:
    """File and number of the innermost line that is neither torch's nor this package's; an empty name for none."""
    ours = (*(str(Path(package.__file__ or "").parent) for package in (torch, cuda_policy)), str(Path(__file__).parent))
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(ours):
        frame = frame.f_back  # type: ignore[assignment]
    return ("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)
