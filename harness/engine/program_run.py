"""One fault program run action by action, each judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from harness.cases.descriptors import Action, PassKind, ProgramCase, StepCase, TrainingCase
from harness.precision import Precision
from harness.properties.step import STEP_PROPERTIES, StepProperty
from harness.properties.verdict import Verdict
from harness.subjects.step import StepFactory
from harness.subjects.training import TrainingFactory
from harness.trials.fed_step import FedStepTrial
from harness.trials.observation import Observation
from harness.trials.training import TrainingTrial


@dataclass(frozen=True)
class Judged:
    """A property's verdict on one action, and whether the program ends here because the subject raised."""

    verdict: Verdict
    raised: bool


class ProgramRun(Protocol):
    """A program that has been started."""

    def act(self, action: Action | PassKind) -> Judged:
        """Run one more action."""


class TrainingMemory:
    """What every property said of every training program that was run: the properties share their runs.

    A pass of a training takes milliseconds, and judging it next to nothing.
    """

    def __init__(self) -> None:
        self._judged: dict[tuple[str, TrainingCase], dict[str, Judged]] = {}

    def begin(
        self, factory: TrainingFactory, property_: StepProperty, precision: Precision, case: TrainingCase
    ) -> ProgramRun:
        """A run that only happens where its actions have not been run before."""
        return _Remembered(self._judged, factory, property_, precision, case)


def begin_run(
    factory: StepFactory | TrainingFactory,
    property_: StepProperty,
    precision: Precision,
    case: ProgramCase,
    memory: TrainingMemory,
) -> ProgramRun:
    """Start the case's setting; its actions are yet to come."""
    if isinstance(factory, TrainingFactory):
        assert isinstance(case, TrainingCase)
        return memory.begin(factory, property_, precision, case)
    assert isinstance(case, StepCase)
    return _Fresh(FedStepTrial(factory, precision, case).act, property_)


@dataclass(frozen=True)
class _Fresh:
    world_act: Callable[[Action], Observation]
    property: StepProperty

    def act(self, action: Action | PassKind) -> Judged:
        assert isinstance(action, Action)
        seen = self.world_act(action)
        return Judged(self.property.verdict(seen), seen.raised is not None)


class _Remembered:
    def __init__(
        self,
        judged: dict[tuple[str, TrainingCase], dict[str, Judged]],
        factory: TrainingFactory,
        property_: StepProperty,
        precision: Precision,
        case: TrainingCase,
    ) -> None:
        self._judged, self._factory, self._property, self._precision = judged, factory, property_, precision
        self._setting = _with_actions(case, ())
        self._done: tuple[PassKind, ...] = ()
        self._world: TrainingTrial | None = None

    def act(self, action: Action | PassKind) -> Judged:
        assert isinstance(action, PassKind)
        self._done = (*self._done, action)
        key = (self._precision.name, _with_actions(self._setting, self._done))
        if key not in self._judged:
            self._judged[key] = self._run()
        return self._judged[key][self._property.name]

    def _run(self) -> dict[str, Judged]:
        """Catch up with what was remembered so far, then run the last action and have every property judge it."""
        earlier: tuple[PassKind, ...] = ()
        if self._world is None:
            self._world = TrainingTrial(self._factory, self._precision, self._setting)
            earlier = self._done[:-1]
        for action in earlier:
            self._world.act(action)
        seen = self._world.act(self._done[-1])
        return {p.name: Judged(p.verdict(seen), seen.raised is not None) for p in STEP_PROPERTIES}


def _with_actions(case: TrainingCase, actions: tuple[PassKind, ...]) -> TrainingCase:
    return TrainingCase(case.accumulation, case.scale_exponent, case.growth_interval, actions)
