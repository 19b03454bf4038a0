"""A loss case as a script: its tensors, the call, the wrong value and the right one."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from harness.cases.descriptors import LossCase
from harness.engine.plan import Task
from harness.engine.session import Session
from harness.errors import HarnessError, describe_exception, reraise_unless_subjects
from harness.findings.export.cuda_stand_in import STAND_IN, stand_in_source
from harness.findings.export.literals import arguments_source, tensor_source
from harness.findings.export.script import Draft, autocast_source, importing
from harness.kinds.losses import LossBench
from harness.oracle.truth import Truth
from harness.precision import Precision
from harness.process_state import kept_state
from harness.properties import LOSS_PROPERTIES
from harness.subject_spec import SubjectSpec
from harness.subjects.call_expression import NAMES, CallExpression
from harness.subjects.door import load_object
from harness.trials.loss_trial import LossTrial

# Calls of one case that a script shows: a property that compares makes two, or a few.
_MOST_CALLS = 3
# Of the error that the harness measured, what a stand-in must show of it.
_SHOWN = 0.1
_LINE = re.compile(r"^call (\d+): (?:loss (\S+), gradient (?:of length (\S+)|none)|raises (\w+))", re.MULTILINE)


@dataclass(frozen=True)
class _Made:
    """One call that the property made: its tensors, and what came of it in the harness and in float64."""

    tensors: tuple[Tensor, ...]
    value: float = math.nan
    gradient: float | None = None
    loss_scale: float = 1.0
    raised: str = ""
    truth: Truth | None = None


@dataclass
class _Recorder:
    """A loss that remembers what it was called with."""

    subject: Any
    calls: list[tuple[Tensor, ...]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.subject, name)

    def __call__(self, *inputs: Tensor) -> Tensor:
        given = tuple(tensor.detach().clone(memory_format=torch.preserve_format) for tensor in inputs)
        if len(self.calls) < _MOST_CALLS and not any(_alike(given, before) for before in self.calls):
            self.calls.append(given)
        value: Tensor = self.subject(*inputs)
        return value

    def copied(self) -> _Recorder:
        return _Recorder(self.subject.copied(), self.calls)


class LossScript:
    """Writes scripts of one loss case, and tells whether what they print shows the failure."""

    def __init__(self, session: Session, task: Task, precision: Precision, case: LossCase) -> None:
        self._task, self._precision, self._case = task, precision, case
        self._subject = session.subject(task.kind)
        self._trial = LossTrial(self._subject, precision, case, session.folder)
        recorder = _Recorder(self._subject)
        property_ = next(one for one in LOSS_PROPERTIES if one.name == task.property)
        with precision.installed():
            LossBench(recorder, session.folder).judge(property_, precision, case, lambda _: None)
            self._made = [self._measured(tensors) for tensors in recorder.calls]

    def drafts(self) -> Iterator[Draft]:
        """The script, or where the precision is an emulation, stand-ins for it, the nearest first."""
        precision = self._precision
        if not precision.cuda_policy:
            yield Draft(self._body(precision.device, autocast_source(precision, precision.device)))
            return
        said = f"The harness emulates CUDA's autocast to {_short(precision)}, which a script can't."
        if torch.cuda.is_available():
            yield Draft(self._body("cuda", autocast_source(precision, "cuda")), f"{said} This one runs CUDA's own.")
        dtype = precision.autocast_dtype
        assert dtype is not None
        yield Draft(
            self._body("cpu", "LikeCudaAutocast()", more=stand_in_source(dtype)),
            f"{said} Here {STAND_IN} takes its place.",
        )
        yield Draft(
            self._body("cpu", autocast_source(precision, "cpu")),
            f"{said} The CPU's autocast to the same dtype stands in for it: it casts fewer and other ops.",
        )
        yield Draft(
            self._body("cpu", "torch.autocast('cpu', enabled=False)", str(dtype)),
            f"{said} Inputs in that dtype stand in for it: every op is then run in it.",
        )

    def is_shown(self, printed: str) -> bool:
        """Whether the output has what the harness measured; of a stand-in, a good part of the error."""
        found = {int(number): rest for number, *rest in _LINE.findall(printed)}
        if len(found) < len(self._made) or not self._made:
            return False
        answers = [self._is_alike(made, *found[n]) for n, made in enumerate(self._made, 1)]
        return any(answers) if self._precision.cuda_policy else all(answers)

    def _is_alike(self, made: _Made, value: str, gradient: str, raised: str) -> bool:
        if made.raised or raised:
            return bool(raised) and made.raised.startswith(raised)
        loss, length = float(value), float(gradient) if gradient else None
        pairs = [(made.value, loss, None if made.truth is None else made.truth.value)]
        if made.gradient is not None and length is not None:
            right = None if made.truth is None else float(made.truth.gradient.norm())
            pairs.append((made.gradient, length, right))
        if self._precision.cuda_policy:
            about_gradient = "gradient" in self._task.property and len(pairs) > 1
            return _has_the_error(*pairs[1 if about_gradient else 0])
        return (made.gradient is None) == (length is None) and all(_near(was, now) for was, now, _ in pairs)

    def _measured(self, tensors: tuple[Tensor, ...]) -> _Made:
        inputs = type(self._trial.inputs)(*tensors)
        truth = None
        if self._case.flaw is None:
            try:
                truth = self._trial.truth_of(inputs)
            except HarnessError:
                truth = None
        try:
            with kept_state():
                seen = self._trial.evaluate(inputs)
        except BaseException as error:
            reraise_unless_subjects(error)
            return _Made(tensors, raised=describe_exception(error), truth=truth)
        length = float(seen.gradient.norm()) if seen.has_graph else None
        return _Made(tensors, seen.value, length, seen.loss_scale, truth=truth)

    def _body(self, device: str, autocast: str, cast: str = "", more: Sequence[str] = ()) -> str:
        subject = self._subject
        names = NAMES[subject.kind]
        all_names = ("x", "y", "mask") if len(names) == 2 else tuple(names)
        textbook = subject.definition.name == "masked-ssim" and all(made.truth for made in self._made)
        tensors: list[str] = []
        for made in self._made:
            for name, tensor in zip(all_names, made.tensors, strict=True):
                tensors += tensor_source(name, tensor)
            values = ", ".join((*all_names, repr(made.loss_scale), _right(made)))
            tensors += [f"calls.append(({values}))", ""]
        first = all_names[0]
        moved = [f"    {name} = {name}.to({device!r}{_dtype(cast, name)})" for name in all_names]
        making, called = _call(subject.name, subject.expression, names)
        shows_textbook = [
            f"    exact = {first}.detach().double().requires_grad_()",
            f"    textbook = textbook_loss(exact, {all_names[1]}, mask)",
            "    (true_gradient,) = torch.autograd.grad(textbook, exact)",
        ]
        compares = [
            "    length = true_gradient.norm().item()",
            "    print(f'  by the textbook in float64: loss {textbook.item():.9g}, gradient of length {length:.9g}')",
            "    if gradient is not None:",
            "        off = (gradient.double() - true_gradient).norm().item()",
            "        print(f'  the gradient is off by {off:.6g}')",
        ]
        return "\n".join(
            [
                *_IMPORTS,
                "",
                *importing(subject.name),
                making,
                "",
                *more,
                *(_TEXTBOOK if textbook else ()),
                "# Tensors, a power of two that the loss is multiplied by before its backward pass, and what is right.",
                "calls = []",
                *tensors,
                f"for number, ({', '.join(all_names)}, scale, right) in enumerate(calls, 1):",
                *moved,
                *(shows_textbook if textbook else ()),
                f"    {first} = {first}.detach().clone(memory_format=torch.preserve_format)",
                f"    if {first}.is_floating_point():",
                f"        {first}.requires_grad_()",
                "    try:",
                f"        with {autocast}:",
                f"            loss = {called}",
                "        gradient = None",
                "        if loss.requires_grad:",
                f"            (gradient,) = torch.autograd.grad(loss.float() * scale, {first}, materialize_grads=True)",
                "            gradient = gradient.double() / scale",
                "    except Exception as error:",
                "        print(f'call {number}: raises {type(error).__name__}: {error} (right: {right})')",
                "        continue",
                "    length = 'none' if gradient is None else f'of length {gradient.norm().item():.9g}'",
                "    print(f'call {number}: loss {float(loss):.9g}, gradient {length} (right: {right})')",
                *(compares if textbook else ()),
            ]
        )


_IMPORTS = (
    "import base64",
    "import importlib.util",
    "import operator",
    "import pathlib",
    "import sys",
    "import zlib",
    "from math import inf, nan",
    "",
    "import torch",
    "import torch.nn.functional as F",
)

_TEXTBOOK = '''\
def textbook_loss(x, y, mask):
    """1 - SSIM of the images with grey where the mask hides: Wang et al. 2004, in float64."""
    x, y = (torch.where(mask > 0.5, image.double(), 0.5) for image in (x, y))
    taps = torch.exp(-((torch.arange(11, dtype=torch.float64, device=x.device) - 5) ** 2) / (2 * 1.5**2))
    window = (torch.outer(taps, taps) / taps.sum() ** 2).expand(3, 1, 11, 11)
    mean_x, mean_y, xx, yy, xy = (F.conv2d(image, window, groups=3) for image in (x, y, x * x, y * y, x * y))
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    contrast = (2 * (xy - mean_x * mean_y) + c2) / (xx - mean_x**2 + yy - mean_y**2 + c2)
    return 1 - (luminance * contrast).mean()

'''.splitlines()


def _call(name: SubjectSpec, expression: CallExpression | None, names: Sequence[str]) -> tuple[str, str]:
    """The line that makes the loss, and the expression that calls it on tensors of these names."""
    found = load_object(name.spec, name.root)
    given = dict(name.arguments)
    takes_range = "data_range" in inspect.signature(found).parameters and not isinstance(found, nn.Module)
    given = {**({"data_range": 1.0} if takes_range else {}), **given}
    making, more = "loss_of = Subject", ""
    if inspect.isclass(found):
        making = f"loss_of = Subject({arguments_source(given)})"
    elif given:
        more = arguments_source(given)
    if expression is None:
        arguments = list(names)
    else:
        shown = [_argument(what, names) for what in expression.positional]
        arguments = shown + [f"{key}={_argument(what, names)}" for key, what in expression.keywords.items()]
    called = f"loss_of({', '.join([*arguments, *([more] if more else [])])})"
    called += f".{name.reduce}()" if name.reduce else ""
    called = f"1 - {called}.double()" if name.similarity else called
    return making, called if name.scale == 1.0 else f"({called}) * {name.scale!r}"


def _argument(what: Any, names: Sequence[str]) -> str:
    return names[what] if isinstance(what, int) else repr(what.value)


def _right(made: _Made) -> str:
    if made.truth is None:
        return repr("an error that says what is wrong with the input")
    return repr(f"loss {made.truth.value:.9g}, gradient of length {float(made.truth.gradient.norm()):.9g}")


def _dtype(cast: str, name: str) -> str:
    # Rays come from cameras, and stay float32.
    return f", {cast}" if cast and name not in ("origin", "direction") else ""


def _short(precision: Precision) -> str:
    return str(precision.autocast_dtype).removeprefix("torch.")


def _alike(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> bool:
    return all(
        a.dtype == b.dtype and a.shape == b.shape and a.stride() == b.stride() and torch.equal(a, b)
        for a, b in zip(first, second, strict=True)
    )


def _near(was: float, now: float) -> bool:
    if not math.isfinite(was):
        return str(was) == str(now)
    return math.isclose(was, now, rel_tol=1e-2, abs_tol=1e-6)


def _has_the_error(was: float, now: float, right: float | None) -> bool:
    """Whether the value is wrong too, in a good part by as much."""
    if not math.isfinite(was):
        return not math.isfinite(now)
    if right is None:
        return math.isfinite(now)
    return not abs(now - right) < _SHOWN * abs(was - right)
