"""Whole trainings: their own model, loss, optimizer and batches, which the harness spoils."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from harness.cases.descriptors import PassKind, TrainingCase
from harness.cases.image_folder import ImageFolder
from harness.cases.strategies import TRAINING_SCALE_EXPONENTS
from harness.errors import UsageError
from harness.kinds.kind import Bench, Judged, Kind, SearchPlan, Starting
from harness.kinds.programs import (
    JudgedAction,
    describe_program,
    is_short,
    judge_program,
    parts,
    program_cases,
    timeline,
    without,
)
from harness.precision import Precision
from harness.properties import STEP_PROPERTIES, StepProperty
from harness.subject_spec import SubjectKind, SubjectSpec
from harness.subjects.training import TrainingFactory, adapt_training, is_training
from harness.trials.observation import observe_program
from harness.trials.pristine_training import why_unpredictable
from harness.trials.training import TrainingTrial

_LONGEST_PROGRAM = 6
# A pass takes milliseconds: a program is drawn for so many examples asked for.
_EXAMPLES_A_PROGRAM = 4
_RESUMED = (PassKind.GOOD, PassKind.RESTORE, PassKind.GOOD)


class Trainings(Kind[TrainingFactory, StepProperty, TrainingCase]):
    """Classes of the shape of :class:`harness.protocols.TrainingLike`."""

    name, role, words = "training", SubjectKind.STEP, "a fault program of a whole training"
    cases, properties = TrainingCase, STEP_PROPERTIES
    shares_runs = True

    def recognises(self, found: Any) -> bool:
        return is_training(found)

    def adapt(self, found: Any, name: SubjectSpec, try_out: bool = True) -> TrainingFactory:
        without(tuple(PassKind), name.without)
        if name.promises:
            raise UsageError(f"{name.spec} is a whole training: it promises what it is handed, and takes no --promise.")
        return adapt_training(found, name)

    def refusal(self, subject: Any) -> str:
        return "" if isinstance(subject, TrainingFactory) else "it isn't a whole training"

    def bench(self, subject: TrainingFactory, folder: ImageFolder | None) -> TrainingBench:
        return TrainingBench(subject)

    def describe(self, case: TrainingCase) -> str:
        return describe_program(case)

    def runs_in(self, precision: Precision) -> bool:
        return precision.applies_to_steps


class TrainingBench(Bench[StepProperty, TrainingCase]):
    """One training. What every property said of every pass of every program is kept: the properties share the runs.

    A pass takes milliseconds, and judging it next to nothing.
    """

    def __init__(self, factory: TrainingFactory) -> None:
        self._factory = factory
        self._judged: dict[tuple[str, TrainingCase], Mapping[str, JudgedAction]] = {}

    def inapplicable(self, property_: StepProperty) -> str | None:
        return (why_unpredictable(self._factory) if property_.needs_prediction else "") or None

    def plan(self, property_: StepProperty, examples: int) -> SearchPlan[TrainingCase]:
        passes = without(property_.passes, self._factory.name.without)
        return SearchPlan(
            program_cases(TrainingCase, passes, TRAINING_SCALE_EXPONENTS, _LONGEST_PROGRAM),
            max(1, examples // _EXAMPLES_A_PROGRAM),
            is_short,
            lambda case: parts(case, TRAINING_SCALE_EXPONENTS),
            first=_shortest(passes, examples),
            shared_draws=True,
        )

    def judge(self, property_: StepProperty, precision: Precision, case: TrainingCase, starting: Starting) -> Judged:
        def begin() -> _SharedRun:
            return _SharedRun(self._judged, self._factory, property_, precision, case)

        return judge_program(case, begin, starting)

    def evidence(
        self, property_: StepProperty, precision: Precision, case: TrainingCase, brief: bool = False
    ) -> Mapping[str, Any]:
        with precision.installed():
            trial = TrainingTrial(self._factory, precision, case)
            return {"timeline": timeline(observe_program(trial.act, case.actions))}


def _shortest(passes: Sequence[PassKind], examples: int) -> list[TrainingCase]:
    """Every pass alone and after every other, and an update before and after a restore, which tells whether the
    optimizer's state came along: too few programs are drawn to count on these.
    """
    resumed = [_RESUMED] if PassKind.RESTORE in passes else []
    programs = [*((kind,) for kind in passes), *resumed, *itertools.product(passes, passes)]
    asked_for = programs[: max(len(passes) + len(resumed), examples)]
    return [TrainingCase(scale_exponent=min(TRAINING_SCALE_EXPONENTS), actions=program) for program in asked_for]


class _SharedRun:
    """A run that only happens where its passes have not been run before."""

    def __init__(
        self,
        judged: dict[tuple[str, TrainingCase], Mapping[str, JudgedAction]],
        factory: TrainingFactory,
        property_: StepProperty,
        precision: Precision,
        case: TrainingCase,
    ) -> None:
        self._judged, self._factory, self._property, self._precision = judged, factory, property_, precision
        self._setting = _with_passes(case, ())
        self._done: tuple[PassKind, ...] = ()
        self._trial: TrainingTrial | None = None

    def act(self, action: PassKind) -> JudgedAction:
        self._done = (*self._done, action)
        key = (self._precision.name, _with_passes(self._setting, self._done))
        if key not in self._judged:
            self._judged[key] = self._run()
        return self._judged[key][self._property.name]

    def _run(self) -> dict[str, JudgedAction]:
        """Catch up with what was run before, then run the last pass and have every property judge it."""
        earlier: tuple[PassKind, ...] = ()
        if self._trial is None:
            self._trial = TrainingTrial(self._factory, self._precision, self._setting)
            earlier = self._done[:-1]
        for action in earlier:
            self._trial.act(action)
        seen = self._trial.act(self._done[-1])
        return {p.name: JudgedAction(p.verdict(seen), seen.raised is not None) for p in STEP_PROPERTIES}


def _with_passes(case: TrainingCase, passes: tuple[PassKind, ...]) -> TrainingCase:
    return TrainingCase(case.accumulation, case.scale_exponent, case.growth_interval, passes)
