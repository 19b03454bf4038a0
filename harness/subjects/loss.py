"""Adapt a class or function to a loss that is called with images, or points and rays, and a mask."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from harness.errors import SubjectError, describe_exception, reraise_unless_subjects
from harness.files import shown
from harness.oracle.definitions import DEFINITIONS, Counting, LossDefinition, definition_named
from harness.process_state import kept_state
from harness.protocols import LossKind
from harness.subject_spec import AUTO_TRUTH, DEFAULT_TRUTH, SubjectSpec
from harness.subjects.call_expression import NAMES, CallExpression, parse_call
from harness.subjects.door import load_object
from harness.subjects.witness import HeldTo, found_out

_RANGE = "data_range"


@dataclass(frozen=True)
class DataRange:
    """The range [0, value] of images that a loss is written for. Those that it is called with are always in [0, 1], or
    a little beyond.

    Attributes:
        value: a number, or whatever else stands in the loss's arguments.
        source: where that is known from.
    """

    value: Any
    source: str

    @property
    def words(self) -> str:
        """For a report."""
        value = f"{self.value:g}" if isinstance(self.value, (int, float)) else shown(self.value)
        return f"{_RANGE} {value}, {self.source}"


@dataclass(frozen=True)
class Origin:
    """Where further instances of a loss come from.

    Attributes:
        construct: makes another of its class; ``None`` where no class was named.
        untouched: a deep copy from before the first call; ``None`` where it can't be copied, or is a function.
    """

    construct: Callable[[], Callable[..., Any]] | None = None
    untouched: Callable[..., Any] | None = None


@dataclass(frozen=True)
class AdaptedLoss:
    """Any callable as a :class:`harness.protocols.LossSubject`."""

    name: SubjectSpec
    kind: LossKind
    function: Callable[..., Any]
    expression: CallExpression | None = None
    held_to: HeldTo = field(default_factory=lambda: HeldTo(definition_named(DEFAULT_TRUTH)), compare=False)
    origin: Origin = field(default_factory=lambda: Origin(), compare=False)
    takes_range: bool = False

    @property
    def definition(self) -> LossDefinition:
        """What it is held to."""
        return self.held_to.definition

    @property
    def data_range(self) -> DataRange | None:
        """Which range it takes the images to have; ``None`` for a loss of points."""
        if self.kind is LossKind.POINTS:
            return None
        told = {**dict(self.name.arguments), **({} if self.expression is None else self.expression.literals)}
        if _RANGE in told:
            return DataRange(told[_RANGE], "as it was told to")
        if self.takes_range:
            return DataRange(1.0, "given to it")
        own = getattr(self.function, _RANGE, None)
        return DataRange(1.0, "taken for granted") if own is None else DataRange(own, "its own")

    @property
    def convolutions(self) -> Sequence[tuple[Tensor, Tensor]] | None:
        """The subject's attribute of that name."""
        found: Sequence[tuple[Tensor, Tensor]] | None = getattr(self.function, "convolutions", None)
        return found

    def __call__(self, *inputs: Shaped[Tensor, "n c h w"]) -> Float[Tensor, ""]:
        """The loss; of a similarity, 1 − value in float64, so that the subtraction adds no error of its own.

        Raises:
            SubjectError: the subject returned something other than one number as a tensor.
        """
        if isinstance(self.function, nn.Module):
            self.function.to(inputs[0].device)
        value = self.returned(*inputs)
        if self.name.similarity:
            value = 1.0 - value.double()
        return value if self.name.scale == 1.0 else value * self.name.scale

    @property
    def module(self) -> nn.Module | None:
        """The subject itself, where it is one."""
        return self.function if isinstance(self.function, nn.Module) else None

    def copied(self) -> AdaptedLoss:
        """A deep copy."""
        return replace(self, function=copy.deepcopy(self.function))

    def fresh(self) -> AdaptedLoss:
        """As it was before its first call, random weights included; of a function, itself."""
        if self.origin.untouched is not None:
            return replace(self, function=copy.deepcopy(self.origin.untouched))
        return self if self.origin.construct is None else replace(self, function=self.origin.construct())

    def constructed(self) -> AdaptedLoss:
        """Another of its class; of what has no class to be constructed, fresh."""
        return self.fresh() if self.origin.construct is None else replace(self, function=self.origin.construct())

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Surrounds calls in eval mode, where it has modes."""
        if not isinstance(self.function, nn.Module):
            yield
            return
        training = self.function.training
        self.function.eval()
        try:
            yield
        finally:
            self.function.train(training)

    def returned(self, *inputs: Shaped[Tensor, "n c h w"]) -> Float[Tensor, ""]:
        """What the subject itself gives, a map reduced.

        Raises:
            SubjectError: as calling it.
        """
        if self.expression is not None:
            value = self.expression(self.function, inputs)
        else:
            value = self.function(*inputs[: len(NAMES[self.kind])])
        if isinstance(value, Tensor) and self.name.reduce is not None:
            value = value.mean() if self.name.reduce == "mean" else value.sum()
        if not isinstance(value, Tensor) or value.numel() != 1:
            several = isinstance(value, Tensor) and value.numel() > 1
            shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
            hint = " (--reduce mean takes the mean of such a map)" if several else ""
            raise SubjectError(
                f"{self.name.spec} returned a {type(value).__name__}{shape}; a loss must return one number as a "
                f"torch.Tensor{hint}."
            )
        return value.reshape(())


def load_loss(subject: SubjectSpec, *, try_out: bool = True) -> AdaptedLoss:
    """Load and adapt the loss.

    Raises:
        SubjectError: it can't be loaded, or as :func:`adapt_loss`.
        UsageError: there is no such truth.
    """
    return adapt_loss(load_object(subject.spec, subject.root), subject, try_out=try_out)


def adapt_loss(found: Any, subject: SubjectSpec, *, try_out: bool = True) -> AdaptedLoss:
    """Adapt a class or function, and (``try_out``) call it once on plain input.

    A class is constructed without arguments, with ``data_range=1.0`` where it has such a parameter, and so is a
    function given it.  Two required arguments make a bare loss (x, y), three a masked one (rendering, target,
    mask), four one on points (xyz, origin, direction, mask).

    Raises:
        SubjectError: it can't be constructed, or called so, or takes other input than what it is held to.
        UsageError: there is no such truth.
    """
    # A copy: a constructor may change what it is given, and case files would then name other arguments.
    function = _constructed(found, subject.spec, copy.deepcopy(dict(subject.arguments)))
    expression = None if subject.call is None else parse_call(subject.call)
    kind = _kind(function, subject.spec) if expression is None else expression.kind
    auto = subject.truth == AUTO_TRUTH
    named = HeldTo(definition_named(DEFAULT_TRUTH if auto else subject.truth))
    takes_range = _RANGE in _parameters(found, subject.spec) and not isinstance(found, nn.Module)
    origin = _origin(found, function, subject)
    loss = AdaptedLoss(subject, kind, function, expression, named, origin, takes_range)
    if try_out:
        if not auto:
            check_kind(loss, named.definition)
            named.definition.needed(loss.convolutions)
        # What it leaves behind is for its cases to show.
        with kept_state():
            _try_out(loss)
            if auto:
                return replace(loss, held_to=found_out(loss))
    return loss


def _constructed(found: Any, spec: str, given: dict[str, Any]) -> Callable[..., Any]:
    if not callable(found):
        raise SubjectError(f"{spec} is a {type(found).__name__}, which can't be called.")
    parameters = _parameters(found, spec)
    takes_range = _RANGE in parameters
    if not inspect.isclass(found):
        if given and (isinstance(found, nn.Module) or not _takes(parameters, given)):
            raise SubjectError(f"{spec} takes no such arguments as {', '.join(given)}.")
        if (takes_range or given) and not isinstance(found, nn.Module):
            return functools.partial(found, **{**({"data_range": 1.0} if takes_range else {}), **given})
        return found
    arguments = {**({"data_range": 1.0} if takes_range else {}), **given}
    required = [name for name, p in parameters.items() if _is_required(p) and name not in arguments]
    if required:
        raise SubjectError(
            f"{spec} can't be constructed without {', '.join(required)}: give it with --argument {required[0]}=VALUE."
        )
    try:
        built = found(**arguments)
    except BaseException as error:
        reraise_unless_subjects(error)
        raise SubjectError(f"constructing {spec} raised {describe_exception(error)}.") from error
    if not callable(built):
        raise SubjectError(f"{spec} makes objects that can't be called; a loss needs forward() or __call__().")
    return built


def _origin(found: Any, function: Callable[..., Any], subject: SubjectSpec) -> Origin:
    if isinstance(function, (functools.partial, types.FunctionType, types.BuiltinFunctionType)):
        return Origin()
    construct: Callable[[], Callable[..., Any]] | None = None
    if inspect.isclass(found):
        given = copy.deepcopy(dict(subject.arguments))
        # What this raises is for a property to show, unlike what the first one raised.
        takes = {"data_range": 1.0} if "data_range" in _parameters(found, subject.spec) else {}
        construct = functools.partial(_built, found, {**takes, **given})
    try:
        return Origin(construct, copy.deepcopy(function))
    except BaseException as error:
        # Likewise.
        reraise_unless_subjects(error)
        return Origin(construct)


def _built(found: Callable[..., Any], arguments: dict[str, Any]) -> Callable[..., Any]:
    built: Callable[..., Any] = found(**copy.deepcopy(arguments))
    return built


def _kind(function: Callable[..., Any], spec: str) -> LossKind:
    parameters = _parameters(function.forward if isinstance(function, nn.Module) else function, spec)
    parameters.pop("data_range", None)
    if any(p.kind is p.VAR_POSITIONAL for p in parameters.values()) and not any(map(_is_required, parameters.values())):
        return LossKind.BARE
    required = [name for name, p in parameters.items() if _is_required(p)]
    if len(required) == 3 or (len(required) == 2 and list(parameters)[2:3] == ["mask"]):
        return LossKind.MASKED
    if len(required) == 2:
        return LossKind.BARE
    if len(required) == 4:
        return LossKind.POINTS
    raise SubjectError(
        f"{spec} takes {len(required)} required arguments ({', '.join(required) or 'none'}); a loss takes (x, y), "
        f"(rendering, target, mask) or (xyz, origin, direction, mask). Say how it is called with --call 'f(x, y, …)'."
    )


def check_kind(loss: AdaptedLoss, definition: LossDefinition) -> None:
    """A loss that can't be what it is held to is no wrong loss, but another.

    Raises:
        SubjectError: it takes other arguments than the definition has.
    """
    spec, takes = loss.name.spec, ", ".join(NAMES[loss.kind])
    if (loss.kind is LossKind.POINTS) != definition.on_points:
        others = ", ".join(m.name for m in DEFINITIONS.values() if m.on_points == (loss.kind is LossKind.POINTS))
        raise SubjectError(
            f"{spec} takes ({takes}), but {definition.name} is a loss of "
            f"{'points' if definition.on_points else 'images'}: "
            f"name what it is meant to be with --truth, one of {others}."
        )
    if loss.kind is LossKind.BARE and definition.counting not in (Counting.ALL, Counting.COMPOSITED):
        raise SubjectError(f"{spec} takes ({takes}), but {definition.name} can't be told without a mask.")


def _takes(parameters: dict[str, inspect.Parameter], names: Iterable[str]) -> bool:
    return all(name in parameters for name in names) or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _parameters(function: Callable[..., Any], spec: str) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError) as error:
        raise SubjectError(f"{spec} shows no signature: write a small function around it and name that.") from error


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind in (
        parameter.POSITIONAL_ONLY,
        parameter.POSITIONAL_OR_KEYWORD,
        parameter.KEYWORD_ONLY,
    )


def _try_out(loss: AdaptedLoss) -> None:
    """One call on plain input tells a subject that doesn't fit from one that is wrong."""
    side = max(16, loss.definition.smallest_side)
    ramp = torch.linspace(0.0, 1.0, 3 * side * side).reshape(1, 3, side, side)
    mask = torch.zeros(1, 1, side, side)
    mask[..., 4:12, 4:12] = 1.0
    images = (ramp, ramp.flip(-1))
    # Rays straight ahead from the origin, and points one to two away.
    ahead = torch.zeros_like(ramp)
    ahead[:, 2] = 1.0
    points = (ramp + ahead, torch.zeros_like(ramp), ahead)
    try:
        loss(*(points if loss.kind is LossKind.POINTS else images), mask)
    except BaseException as error:
        reraise_unless_subjects(error)
        plain = "map of points" if loss.kind is LossKind.POINTS else "image pair"
        raise SubjectError(
            f"{loss.name.spec} does not fit: called as loss({', '.join(NAMES[loss.kind])}) on one plain float32 "
            f"{plain} of {side}×{side} pixels it raised {describe_exception(error)}. If it is called otherwise, "
            f"say how with --call 'f(x, y, …)'."
        ) from error
