"""How a loss is called, as a small expression: ``f(x, y, 11, reduction='none')``. It is parsed, and never evaluated."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from harness.errors import UsageError
from harness.files import shown
from harness.protocols import LossKind

NAMES: Mapping[LossKind, Sequence[str]] = {
    LossKind.BARE: ("x", "y"),
    LossKind.MASKED: ("rendering", "target", "mask"),
    LossKind.POINTS: ("xyz", "origin", "direction", "mask"),
}
"""What the tensors of a call are called, in their order."""
# The images of a masked loss by a bare one's names.
_ALSO = {"x": 0, "y": 1}


@dataclass(frozen=True)
class CallExpression:
    """A parsed call.

    Attributes:
        kind: a loss of images with a mask, where the call names it; of two images else.
        positional: a tensor's place, or a literal.
        keywords: likewise, by name.
    """

    kind: LossKind
    positional: tuple[int | _Literal, ...]
    keywords: Mapping[str, int | _Literal]

    @property
    def literals(self) -> dict[str, Any]:
        """The keywords that aren't tensors, with their values."""
        return {name: what.value for name, what in self.keywords.items() if isinstance(what, _Literal)}

    def __call__(self, function: Callable[..., Any], inputs: Sequence[Tensor]) -> Any:
        """The function called so."""

        def value(what: int | _Literal) -> Any:
            return what.value if isinstance(what, _Literal) else inputs[what]

        return function(*map(value, self.positional), **{name: value(what) for name, what in self.keywords.items()})


@dataclass(frozen=True)
class _Literal:
    value: Any


def parse_call(text: str) -> CallExpression:
    """The call that the text says.

    Raises:
        UsageError: it is no call of ``f`` with tensors by their names and literals.
    """
    how = (
        f"the call is {shown(text)}, which isn't of the form f(x, y, …): arguments are x and y (or rendering, target "
        f"and mask; or xyz, origin, direction and mask), numbers, text, True, False and None."
    )
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id != "f":
            raise UsageError(how)
        used = {node.id for node in ast.walk(call) if isinstance(node, ast.Name)} - {"f"}
        kind = _kind(used)
        places = {name: place for place, name in enumerate(NAMES[kind])}
        if kind is not LossKind.POINTS:
            places |= _ALSO

        def argument(node: ast.expr) -> int | _Literal:
            return places[node.id] if isinstance(node, ast.Name) else _Literal(ast.literal_eval(node))

        if any(keyword.arg is None for keyword in call.keywords):
            raise UsageError(how)
        return CallExpression(
            kind,
            tuple(argument(node) for node in call.args),
            {str(keyword.arg): argument(keyword.value) for keyword in call.keywords},
        )
    except (SyntaxError, ValueError, KeyError, TypeError, RecursionError, MemoryError):
        raise UsageError(how) from None


def _kind(used: set[str]) -> LossKind:
    if used & {"xyz", "origin", "direction"}:
        return LossKind.POINTS
    return LossKind.MASKED if "mask" in used else LossKind.BARE
