"""Search for a fault program on which a step violates a property: a Hypothesis state machine of its actions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import Phase, seed
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from harness.cases.descriptors import Action, Case, PassKind, ProgramCase, StepCase, TrainingCase, with_actions
from harness.cases.strategies import ACCUMULATIONS, GROWTH_INTERVALS, SCALE_EXPONENTS, TRAINING_SCALE_EXPONENTS
from harness.engine.events import Listener
from harness.engine.plan import Task
from harness.engine.program_run import ProgramRun, TrainingMemory, begin_run
from harness.engine.result import TaskResult
from harness.engine.search import Search, hypothesis_settings, run_quietly
from harness.precision import Precision
from harness.properties.step import StepProperty
from harness.properties.verdict import VACUOUS, Verdict
from harness.subjects.step import StepFactory
from harness.subjects.training import TrainingFactory

_LONGEST_PROGRAM = 10
_LONGEST_TRAINING = 6
# A training's pass takes milliseconds: it runs a program for so many examples asked for.
_EXAMPLES_A_TRAINING = 4
_RESUMED = (PassKind.GOOD, PassKind.RESTORE, PassKind.GOOD)
# Micro-steps that a person can follow.
_SMALL = 3


def check_step_case(
    factory: StepFactory | TrainingFactory,
    property_: StepProperty,
    precision: Precision,
    case: ProgramCase,
    memory: TrainingMemory | None = None,
) -> Verdict:
    """One property over a whole fault program: the first violation, else the worst verdict."""
    run = begin_run(factory, property_, precision, case, memory or TrainingMemory())
    worst = VACUOUS
    for action in case.actions:
        judged = run.act(action)
        if not judged.verdict.holds:
            return judged.verdict
        worst = max(worst, judged.verdict, key=lambda v: v.badness)
        if judged.raised:
            break
    return worst


def search_step(
    task: Task,
    factory: StepFactory | TrainingFactory,
    property_: StepProperty,
    precision: Precision,
    *,
    examples: int,
    seed_: int,
    suspects: Sequence[Case],
    emit: Listener,
    deadline: float | None,
    memory: TrainingMemory,
) -> TaskResult:
    """Run the suspects and a training's shortest programs, then drawn ones action by action; shrink what fails."""
    search = Search(task, emit, deadline)
    shape = _shape(factory, property_, examples)
    for case in (*suspects, *shape.first):
        assert isinstance(case, (StepCase, TrainingCase))
        if not search.may_run():
            break
        search.starting(case)
        verdict = check_step_case(factory, property_, precision, case, memory)
        run_quietly(lambda case=case, v=verdict: search.ran(case, v))  # type: ignore[misc]
        if search.has_failed:
            return search.result()

    class FaultProgram(RuleBasedStateMachine):
        """Draws a setting and then actions, running each as it is drawn."""

        def __init__(self) -> None:
            super().__init__()
            self.case = shape.case()
            self.run: ProgramRun | None = None
            self.worst = VACUOUS
            self.ended = False

        @initialize(
            accumulation=st.sampled_from(ACCUMULATIONS),
            scale_exponent=st.sampled_from(shape.scale_exponents),
            growth_interval=st.sampled_from(GROWTH_INTERVALS),
        )
        def start(self, accumulation: int, scale_exponent: int, growth_interval: int) -> None:
            self.case = shape.case(accumulation, scale_exponent, growth_interval)
            self.ended = not search.may_run()
            if not self.ended:
                self.run = begin_run(factory, property_, precision, self.case, memory)

        @rule(action=st.sampled_from(shape.actions))
        def act(self, action: Any) -> None:
            self.case = with_actions(self.case, (*self.case.actions, action))
            search.fail_again(self.case)
            if self.ended or self.run is None:
                return
            search.starting(self.case)
            judged = self.run.act(action)
            self.worst = max(self.worst, judged.verdict, key=lambda v: v.badness)
            if not judged.verdict.holds:
                self.ended = True
                search.ran(self.case, judged.verdict)
            self.ended = self.ended or judged.raised

        def teardown(self) -> None:
            # A program that held counts once, when it is whole.
            if self.run is not None and self.worst.holds:
                search.ran(self.case, self.worst)

    run_quietly(
        lambda: run_state_machine_as_test(
            seed(shape.seed(task, seed_))(FaultProgram),
            settings=hypothesis_settings(
                shape.programs(examples), (Phase.generate, Phase.shrink), stateful_step_count=shape.longest
            ),
        )
    )
    if search.has_failed and not _is_small(search.smallest):
        _try_parts(search, lambda case: check_step_case(factory, property_, precision, case, memory))
    return search.result()


@dataclass(frozen=True)
class _Shape:
    """What the programs of one shape of step look like."""

    case: type[StepCase] | type[TrainingCase]
    actions: Sequence[Action | PassKind]
    scale_exponents: Sequence[int]
    longest: int
    shared: bool
    first: Sequence[ProgramCase] = ()

    def programs(self, examples: int) -> int:
        """How many are drawn for so many examples."""
        return max(1, examples // _EXAMPLES_A_TRAINING) if self.shared else examples

    def seed(self, task: Task, seed_: int) -> int:
        """The task's own; where runs are shared, one for all properties, so that they draw the same programs."""
        return replace(task, property="any").seed(seed_) if self.shared else task.seed(seed_)


def _shape(factory: StepFactory | TrainingFactory, property_: StepProperty, examples: int) -> _Shape:
    if isinstance(factory, TrainingFactory):
        passes = property_.passes
        # Every pass alone and after every other: too few programs are drawn to count on it. Nor on an update before and
        # one after a restore, which tells whether the optimizer's state came along.
        resumed = [_RESUMED] if PassKind.RESTORE in passes else []
        short = [*((kind,) for kind in passes), *resumed, *itertools.product(passes, passes)]
        asked_for = short[: max(len(passes) + len(resumed), examples)]
        first = [TrainingCase(scale_exponent=min(TRAINING_SCALE_EXPONENTS), actions=actions) for actions in asked_for]
        return _Shape(TrainingCase, passes, TRAINING_SCALE_EXPONENTS, _LONGEST_TRAINING, shared=True, first=first)
    return _Shape(StepCase, property_.actions, SCALE_EXPONENTS, _LONGEST_PROGRAM, shared=False)


def _try_parts(search: Search, check: Callable[[ProgramCase], Verdict]) -> None:
    """Try every few actions of the failing program, in their order, under every accumulation.

    Hypothesis' shrinking seldom finds its way from a long window to a short one, where both program and setting change.
    """
    large = search.smallest
    assert isinstance(large, (StepCase, TrainingCase))
    actions: Sequence[Action | PassKind] = large.actions
    parts = [part for length in range(1, _SMALL + 1) for part in itertools.combinations(actions, length)]
    candidates = [
        with_actions(replace(large, accumulation=accumulation), part)
        for part in dict.fromkeys(parts)
        for accumulation in ACCUMULATIONS
    ]
    search.allow_shrinking(len(candidates))
    for candidate in candidates:
        search.starting(candidate)
        verdict = check(candidate)
        run_quietly(lambda case=candidate, v=verdict: search.ran(case, v))  # type: ignore[misc]
        if search.smallest == candidate:
            return
    search.restore_smallest(large)


def _is_small(case: Case | None) -> bool:
    return isinstance(case, (StepCase, TrainingCase)) and case.micro_steps <= _SMALL
