"""Adapt a class or function to a loss that is called with images, or points and rays, and a mask."""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from harness.errors import SubjectError, describe_exception, reraise_unless_subjects
from harness.oracle.definitions import DEFINITIONS, Counting, LossDefinition, definition_named
from harness.process_state import kept_state
from harness.protocols import LossKind
from harness.subject_spec import AUTO_TRUTH, DEFAULT_TRUTH, SubjectSpec
from harness.subjects.adapted_loss import RANGE, AdaptedLoss, Origin
from harness.subjects.call_expression import NAMES, parse_call
from harness.subjects.door import load_object
from harness.subjects.witness import HeldTo, found_out


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
    takes_range = RANGE in _parameters(found, subject.spec) and not isinstance(found, nn.Module)
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
    takes_range = RANGE in parameters
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
