"""Adapt a class or function to a loss that is called with a rendering, a target and a mask."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from harness.errors import SubjectError
from harness.protocols import LossKind, SubjectName
from harness.subjects.door import load_object


@dataclass(frozen=True)
class AdaptedLoss:
    """Any callable as a :class:`harness.protocols.LossSubject`."""

    name: SubjectName
    kind: LossKind
    function: Callable[..., Any]

    def __call__(
        self,
        rendering: Float[Tensor, "n 3 h w"],
        target: Float[Tensor, "n 3 h w"],
        mask: Shaped[Tensor, "n 1 h w"],
    ) -> Float[Tensor, ""]:
        """The loss; of a similarity, 1 − value in float64, so that the subtraction adds no error of its own.

        Raises:
            SubjectError: the subject returned something other than one number as a tensor.
        """
        if isinstance(self.function, nn.Module):
            self.function.to(rendering.device)
        arguments = (rendering, target, mask)[: 3 if self.kind is LossKind.MASKED else 2]
        value = self.function(*arguments)
        if not isinstance(value, Tensor) or value.numel() != 1:
            shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
            raise SubjectError(
                f"{self.name.spec} returned a {type(value).__name__}{shape}; a loss must return one number as a "
                f"torch.Tensor."
            )
        value = value.reshape(())
        return 1.0 - value.double() if self.name.similarity else value


def load_loss(
    spec: str,
    root: str | None = None,
    similarity: bool = False,
    arguments: Mapping[str, Any] | None = None,
    try_out: bool = True,
) -> AdaptedLoss:
    """Load and adapt the loss, and (``try_out``) call it once on a plain pair.

    A class is constructed without arguments, with ``data_range=1.0`` where it has such a parameter, and so is a
    function given it.  Two required arguments make a bare loss (x, y), three a masked one (rendering, target, mask).
    ``arguments`` are further ones for a class' constructor.

    Raises:
        SubjectError: it can't be loaded, constructed, or called so.
    """
    function = _constructed(load_object(spec, root), spec, dict(arguments or {}))
    loss = AdaptedLoss(SubjectName(spec, root, similarity), _kind(function, spec), function)
    if try_out:
        _try_out(loss)
    return loss


def _constructed(found: Any, spec: str, given: dict[str, Any]) -> Callable[..., Any]:
    if not callable(found):
        raise SubjectError(f"{spec} is a {type(found).__name__}, which can't be called.")
    parameters = _parameters(found, spec)
    takes_range = "data_range" in parameters
    if not inspect.isclass(found):
        if given:
            raise SubjectError(f"{spec} is no class, but is to be constructed with {', '.join(given)}.")
        if takes_range and not isinstance(found, nn.Module):
            return functools.partial(found, data_range=1.0)
        return found
    arguments = {**({"data_range": 1.0} if takes_range else {}), **given}
    required = [name for name, p in parameters.items() if _is_required(p) and name not in arguments]
    if required:
        raise SubjectError(
            f"{spec} can't be constructed without {', '.join(required)}: name a small function around it."
        )
    try:
        built = found(**arguments)
    except Exception as error:
        raise SubjectError(f"constructing {spec} raised {type(error).__name__}: {error}.") from error
    if not callable(built):
        raise SubjectError(f"{spec} makes objects that can't be called; a loss needs forward() or __call__().")
    return built


def _kind(function: Callable[..., Any], spec: str) -> LossKind:
    parameters = _parameters(function.forward if isinstance(function, nn.Module) else function, spec)
    parameters.pop("data_range", None)
    required = [name for name, p in parameters.items() if _is_required(p)]
    if len(required) == 3 or (len(required) == 2 and list(parameters)[2:3] == ["mask"]):
        return LossKind.MASKED
    if len(required) == 2:
        return LossKind.BARE
    raise SubjectError(
        f"{spec} takes {len(required)} required arguments ({', '.join(required) or 'none'}); a loss takes (x, y) or "
        f"(rendering, target, mask)."
    )


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
    """One call on a plain pair tells a subject that doesn't fit from one that is wrong."""
    ramp = torch.linspace(0.0, 1.0, 3 * 16 * 16).reshape(1, 3, 16, 16)
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 4:12, 4:12] = 1.0
    try:
        loss(ramp, ramp.flip(-1), mask)
    except SubjectError:
        raise
    except Exception as error:
        arguments = "(rendering, target, mask)" if loss.kind is LossKind.MASKED else "(x, y)"
        raise SubjectError(
            f"{loss.name.spec} does not fit: called as loss{arguments} on one plain float32 image pair of 16×16 pixels "
            f"it raised {type(error).__name__}: {error}."
        ) from error
