"""Fault programs that are run once and judged by all properties of steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from harness.cases.descriptors import ProgramCase, with_actions
from harness.kinds.programs import JudgedAction, ProgramRun
from harness.precision import Precision
from harness.properties import StepProperty
from harness.trials.observation import Observation

C = TypeVar("C", bound=ProgramCase)


class Trial(Protocol):
    """A program that has been started, unjudged."""

    def act(self, action: Any) -> Observation:
        """Run one more action."""


class SharedRuns(Generic[C]):
    """What every property said of every action of every program that was run: judging costs next to nothing.

    Args:
        begin: starts a program of these settings, its actions left out.
        properties: those that may be asked for.
    """

    def __init__(self, begin: Callable[[Precision, C], Trial], properties: Sequence[StepProperty]) -> None:
        self._begin: Callable[[Precision, C], Trial] = begin
        self._properties = properties
        self._judged: dict[tuple[str, C], Mapping[str, JudgedAction]] = {}

    def __len__(self) -> int:
        """How many actions were run and judged, each after what came before it in its program."""
        return len(self._judged)

    def run(self, property_: StepProperty, precision: Precision, case: C) -> ProgramRun:
        """The case's program, to be judged by this property; an action only runs where it has not been run before."""
        return _Run(self, property_, precision, case)

    def judged(self, run: _Run[C]) -> JudgedAction:
        """What the property says of the run's last action."""
        key = (run.precision.name, run.so_far)
        if key not in self._judged:
            self._judged[key] = self._caught_up(run)
        return self._judged[key][run.property.name]

    def _caught_up(self, run: _Run[C]) -> dict[str, JudgedAction]:
        """Catch up with what was run before, then run the last action and have every property judge it."""
        earlier: Sequence[Any] = ()
        if run.trial is None:
            run.trial = self._begin(run.precision, _with(run.so_far, ()))
            earlier = run.so_far.actions[:-1]
        for action in earlier:
            run.trial.act(action)
        seen = run.trial.act(run.so_far.actions[-1])
        return {p.name: JudgedAction(p.verdict(seen), seen.raised is not None) for p in self._properties}


class _Run(Generic[C]):
    """One program, as one property follows it. Nothing runs before it has to."""

    def __init__(self, runs: SharedRuns[C], property_: StepProperty, precision: Precision, case: C) -> None:
        self._runs: SharedRuns[C] = runs
        self.property, self.precision = property_, precision
        self.so_far: C = _with(case, ())
        self.trial: Trial | None = None

    def act(self, action: Any) -> JudgedAction:
        self.so_far = _with(self.so_far, (*self.so_far.actions, action))
        return self._runs.judged(self)


def _with(case: C, actions: Sequence[Any]) -> C:
    changed: Any = with_actions(case, actions)
    return changed
