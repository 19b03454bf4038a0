"""A claim about a training step: a function that judges one action, and what is known of the claim beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.cases.descriptors import Action, PassKind
from harness.properties.claim import claim_of, name_of
from harness.properties.verdict import VACUOUS, Verdict
from harness.trials.observation import Observation

RECOVERABLE = tuple(action for action in Action if action not in (Action.FROZEN, Action.RESTORE))
"""Micro-steps after which a training can go on."""


@dataclass(frozen=True)
class StepProperty:
    """A claim about a step, checked after every action until one raises.

    Attributes:
        name: as ``--property`` takes it.
        claim: the sentence.
        check: gives the verdict on one action. Calling the property does the same.
        actions: what its fault programs are made of, for a step that is fed losses.
        passes: likewise, for a whole training.
        effort: how many times as many programs as asked for are drawn, beside the shortest; fewer where a break is
            common.
        needs_state: it applies only to steps that can save and restore themselves.
        needs_report: it applies only to steps that say what they did.
        needs_prediction: it applies only to steps whose optimizer's updates can be predicted.
        needs_counters: it applies only to steps that count.
        needs_schedule: it applies only to steps that advance the schedule.
        needs_clearing: it applies only to steps that promise to clear their gradients at a window's end.
        of_raising: it judges an action that raised too. Every other property passes over such an action.
    """

    name: str
    claim: str
    check: Callable[[Observation], Verdict]
    actions: tuple[Action, ...] = tuple(action for action in Action if action is not Action.RESTORE)
    # The same for nearly all: one run of a training's program serves them together.
    passes: tuple[PassKind, ...] = tuple(kind for kind in PassKind if kind is not PassKind.FROZEN)
    effort: float = 1.0
    needs_state: bool = False
    needs_report: bool = False
    needs_prediction: bool = False
    needs_counters: bool = False
    needs_schedule: bool = False
    needs_clearing: bool = False
    of_raising: bool = False

    def verdict(self, seen: Observation) -> Verdict:
        """The verdict on one action; vacuous for one that raised, unless ``of_raising``."""
        if seen.raised is not None and not self.of_raising:
            return VACUOUS
        return self.check(seen)

    def __call__(self, seen: Observation) -> Verdict:
        return self.check(seen)


def step_property(**more: Any) -> Callable[[Callable[[Observation], Verdict]], StepProperty]:
    """Make a function a property whose claim is its docstring; ``more`` are the other attributes.

    Raises:
        TypeError: the function has no docstring.
        UsageError: Python was told to leave all docstrings out.
    """

    def made(check: Callable[[Observation], Verdict]) -> StepProperty:
        return StepProperty(name_of(check), claim_of(check), check, **more)

    return made
