"""All rules, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.rehearsal.rank_rules import ranks_decide_alike
from harness.rehearsal.resumption import resume_goes_on
from harness.rehearsal.rules import RULES

_ALL: tuple[Callable[..., Any], ...] = (*RULES, resume_goes_on, ranks_decide_alike)


def claim(rule: str) -> str:
    """What a rule says, in a sentence.

    Raises:
        KeyError: there is no such rule.
    """
    return " ".join((dict(zip(rule_names(), _ALL, strict=True))[rule].__doc__ or "").split())


def rule_names() -> tuple[str, ...]:
    """Of all rules."""
    return tuple(rule.__name__.replace("_", "-") for rule in _ALL)
