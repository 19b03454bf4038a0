"""A loss as the harness calls it, whatever its own shape."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from harness.errors import SubjectError
from harness.files import shown
from harness.oracle.definitions import LossDefinition, definition_named
from harness.protocols import LossKind
from harness.subject_spec import DEFAULT_TRUTH, SubjectSpec
from harness.subjects.call_expression import NAMES, CallExpression
from harness.subjects.witness import HeldTo

RANGE = "data_range"
"""The argument by which SSIMs are told the range of their images."""


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
        return f"{RANGE} {value}, {self.source}"


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
        if RANGE in told:
            return DataRange(told[RANGE], "as it was told to")
        if self.takes_range:
            return DataRange(1.0, "given to it")
        own = getattr(self.function, RANGE, None)
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
