"""Training steps that are fed losses: ours, and FaceLift's trainers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from harness.cases.descriptors import Action, StepCase
from harness.cases.image_folder import ImageFolder
from harness.cases.strategies import SCALE_EXPONENTS, STEP_ACCUMULATIONS, STEP_SCALE_EXPONENTS
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
from harness.kinds.step_worlds import drawn_programs, first_programs, is_plain, simpler_worlds, worlds
from harness.precision import Precision
from harness.properties import STEP_PROPERTIES, StepProperty
from harness.subject_spec import SubjectKind, SubjectSpec
from harness.subjects.called_steps import shape_of
from harness.subjects.step import StepFactory, adapt_fed_step
from harness.trials.fed_step import FedStepTrial
from harness.trials.observation import observe_program
from harness.trials.step_policies import found_out, held_to, with_clips

_LONGEST_PROGRAM = 10
# Of a longer program there are more parts than are worth a try.
_MOST_PARTS = 1600


class FedSteps(Kind[StepFactory, StepProperty, StepCase]):
    """Steps that the harness feeds losses of a tiny model."""

    name, role, words = "fed step", SubjectKind.STEP, "a fault program of a step that is fed losses"
    cases, properties = StepCase, STEP_PROPERTIES
    shares_runs = True

    def recognises(self, found: Any) -> bool:
        if shape_of(found) is not None:
            return True
        own_shape = hasattr(found, "backward") and hasattr(found, "step")
        return isinstance(found, type) and (own_shape or hasattr(found, "optimizer_step"))

    def adapt(self, found: Any, name: SubjectSpec, try_out: bool = True) -> StepFactory:
        factory = adapt_fed_step(found, name)
        without(tuple(Action), name.without)
        if not try_out:
            return factory
        return with_clips(held_to(found_out(factory)))

    def refusal(self, subject: Any) -> str:
        return "" if isinstance(subject, StepFactory) else "it isn't fed losses"

    def bench(self, subject: StepFactory, folder: ImageFolder | None) -> FedStepBench:
        return FedStepBench(subject)

    def describe(self, case: StepCase) -> str:
        return describe_program(case)

    def runs_in(self, precision: Precision) -> bool:
        return precision.applies_to_steps


class FedStepBench(Bench[StepProperty, StepCase]):
    """One step; every program is run on a new one, and the properties that apply share the runs."""

    def __init__(self, factory: StepFactory) -> None:
        self._factory = factory
        applicable = [p for p in STEP_PROPERTIES if self.inapplicable(p) is None]
        self._runs: SharedRuns[StepCase] = SharedRuns(partial(FedStepTrial, factory), applicable)

    def inapplicable(self, property_: StepProperty) -> str | None:
        if property_.needs_state and not self._factory.keeps_state:
            return "it saves itself elsewhere"
        if property_.needs_counters and not self._factory.counts:
            return "it counts nothing"
        if property_.needs_schedule and not self._factory.schedules:
            return "its caller has the schedule"
        if (property_.needs_prediction or property_.needs_state) and self._factory.clips_apart:
            return "it clips each optimizer's gradients by their own norm, which no prediction has"
        if property_.needs_clearing and not self._factory.promises:
            return "it may clear gradients when the next window begins"
        if property_.needs_report and not self._factory.reports:
            return "it says nothing of what it did"
        return None

    def plan(self, property_: StepProperty, examples: int) -> SearchPlan[StepCase]:
        actions = without(property_.actions, self._factory.name.without)
        factory = self._factory
        drawn = program_cases(
            StepCase, actions, STEP_SCALE_EXPONENTS, _LONGEST_PROGRAM, STEP_ACCUMULATIONS, world=worlds(factory)
        )
        first = first_programs(actions, factory, examples)
        count, draws = max(1, round(drawn_programs(examples) * property_.effort)), drawn_from(actions)
        return SearchPlan(drawn, count, _is_small, _simpler, first=first, draws=draws)

    def judge(self, property_: StepProperty, precision: Precision, case: StepCase, starting: Starting) -> Judged:
        return judge_program(case, lambda: self._runs.run(property_, precision, case), starting)

    def evidence(
        self, property_: StepProperty, precision: Precision, case: StepCase, brief: bool = False
    ) -> Mapping[str, Any]:
        with precision.installed():
            trial = FedStepTrial(self._factory, precision, case)
            return {"timeline": timeline(observe_program(trial.act, case.actions))}


def _is_small(case: StepCase) -> bool:
    return is_short(case) and is_plain(case.world)


def _simpler(case: StepCase) -> Iterator[StepCase]:
    likes = [replace(case, world=world) for world in simpler_worlds(case.world)]
    return itertools.islice(parts(case, SCALE_EXPONENTS, likes), _MOST_PARTS)
