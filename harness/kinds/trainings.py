"""Whole trainings: their own model, loss, optimizer and batches, which the harness spoils."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from harness.cases.descriptors import PassKind, TrainingCase
from harness.cases.image_folder import ImageFolder
from harness.cases.strategies import TRAINING_SCALE_EXPONENTS
from harness.errors import UsageError
from harness.kinds.kind import Bench, Judged, Kind, SearchPlan, Starting
from harness.kinds.programs import (
    describe_program,
    drawn_from,
    is_short,
    judge_program,
    parts,
    program_cases,
    timeline,
    without,
)
from harness.kinds.shared_runs import SharedRuns
from harness.precision import Precision
from harness.properties import STEP_PROPERTIES, StepProperty
from harness.subject_spec import SubjectKind, SubjectSpec
from harness.subjects.training import TrainingFactory, adapt_training, is_training
from harness.trials.observation import observe_program
from harness.trials.pristine_training import why_unpredictable
from harness.trials.training import TrainingTrial

_LONGEST_PROGRAM = 6
# A pass takes milliseconds: a program is drawn for so many examples asked for.
_EXAMPLES_A_PROGRAM = 8
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
    """One training, whose properties share the runs."""

    def __init__(self, factory: TrainingFactory) -> None:
        self._factory = factory
        self._runs: SharedRuns[TrainingCase] = SharedRuns(partial(TrainingTrial, factory), STEP_PROPERTIES)

    def inapplicable(self, property_: StepProperty) -> str | None:
        return (why_unpredictable(self._factory) if property_.needs_prediction else "") or None

    def plan(self, property_: StepProperty, examples: int) -> SearchPlan[TrainingCase]:
        passes = without(property_.passes, self._factory.name.without)
        return SearchPlan(
            program_cases(TrainingCase, passes, TRAINING_SCALE_EXPONENTS, _LONGEST_PROGRAM),
            max(1, round(examples / _EXAMPLES_A_PROGRAM * property_.effort)),
            is_short,
            lambda case: parts(case, TRAINING_SCALE_EXPONENTS),
            first=_shortest(passes, examples),
            draws=drawn_from(passes),
        )

    def judge(self, property_: StepProperty, precision: Precision, case: TrainingCase, starting: Starting) -> Judged:
        return judge_program(case, lambda: self._runs.run(property_, precision, case), starting)

    def evidence(
        self, property_: StepProperty, precision: Precision, case: TrainingCase, brief: bool = False
    ) -> Mapping[str, Any]:
        with precision.installed():
            trial = TrainingTrial(self._factory, precision, case)
            return {"timeline": timeline(observe_program(trial.act, case.actions))}


def _shortest(passes: Sequence[PassKind], examples: int) -> list[TrainingCase]:
    """Every pass alone and after every other, an update before and after a restore, which tells whether the optimizer's
    state came along, every pass in a window with a good one, before it and after it, and good ones whose gradients the
    scale makes overflow: too few programs are drawn to count on these.
    """
    resumed = [_RESUMED] if PassKind.RESTORE in passes else []
    programs = [*((kind,) for kind in passes), *resumed, *itertools.product(passes, passes)]
    cases = [TrainingCase(scale_exponent=min(TRAINING_SCALE_EXPONENTS), actions=program) for program in programs]
    others = [kind for kind in passes if kind not in (PassKind.GOOD, PassKind.RESTORE)]
    beside = [pair for kind in others for pair in ((kind, PassKind.GOOD), (PassKind.GOOD, kind))]
    cases += [replace(cases[0], accumulation=2, actions=pair) for pair in beside]
    if PassKind.GOOD in passes:
        largest, good = max(TRAINING_SCALE_EXPONENTS), (PassKind.GOOD,)
        cases += [replace(cases[0], scale_exponent=largest, actions=times * good) for times in (1, 2)]
    return cases[: max(len(passes) + len(resumed), examples)]
