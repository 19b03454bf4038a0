"""Search for a fault program on which a step violates a property: a Hypothesis state machine of its actions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import Phase, seed
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from harness.cases.descriptors import Action, Case, StepCase
from harness.cases.strategies import ACCUMULATIONS, GROWTH_INTERVALS, SCALE_EXPONENTS
from harness.engine.events import Listener
from harness.engine.plan import Task
from harness.engine.result import TaskResult
from harness.engine.search import Search, hypothesis_settings, run_quietly
from harness.precision import Precision
from harness.properties.step import StepProperty
from harness.properties.step_world import StepWorld
from harness.properties.verdict import VACUOUS, Verdict
from harness.subjects.step import StepFactory

_LONGEST_PROGRAM = 10
# Micro-steps that a person can follow.
_SMALL = 3


def check_step_case(factory: StepFactory, property_: StepProperty, precision: Precision, case: StepCase) -> Verdict:
    """One property over a whole fault program: the first violation, else the worst verdict."""
    world = StepWorld(factory, precision, case)
    worst = VACUOUS
    for action in case.actions:
        seen = world.act(action)
        verdict = property_.verdict(seen)
        if not verdict.holds:
            return verdict
        worst = max(worst, verdict, key=lambda v: v.badness)
        if seen.raised is not None:
            break
    return worst


def search_step(
    task: Task,
    factory: StepFactory,
    property_: StepProperty,
    precision: Precision,
    *,
    examples: int,
    seed_: int,
    suspects: Sequence[Case],
    emit: Listener,
    deadline: float | None,
) -> TaskResult:
    """Run the suspects, then drawn programs action by action; shrink what fails."""
    search = Search(task, emit, deadline)
    for suspect in suspects:
        assert isinstance(suspect, StepCase)
        search.starting(suspect)
        verdict = check_step_case(factory, property_, precision, suspect)
        run_quietly(lambda case=suspect, v=verdict: search.ran(case, v))  # type: ignore[misc]
        if search.has_failed:
            return search.result()

    class FaultProgram(RuleBasedStateMachine):
        """Draws a setting and then actions, running each as it is drawn."""

        def __init__(self) -> None:
            super().__init__()
            self.case = StepCase()
            self.world: StepWorld | None = None
            self.worst = VACUOUS
            self.ended = False

        @initialize(
            accumulation=st.sampled_from(ACCUMULATIONS),
            scale_exponent=st.sampled_from(SCALE_EXPONENTS),
            growth_interval=st.sampled_from(GROWTH_INTERVALS),
        )
        def start(self, accumulation: int, scale_exponent: int, growth_interval: int) -> None:
            self.case = StepCase(accumulation, scale_exponent, growth_interval)
            self.ended = not search.may_run()
            if not self.ended:
                self.world = StepWorld(factory, precision, self.case)

        @rule(action=st.sampled_from(property_.actions))
        def act(self, action: Action) -> None:
            self.case = replace(self.case, actions=(*self.case.actions, action))
            search.fail_again(self.case)
            if self.ended or self.world is None:
                return
            search.starting(self.case)
            seen = self.world.act(action)
            verdict = property_.verdict(seen)
            self.worst = max(self.worst, verdict, key=lambda v: v.badness)
            if not verdict.holds:
                self.ended = True
                search.ran(self.case, verdict)
            self.ended = self.ended or seen.raised is not None

        def teardown(self) -> None:
            # A program that held counts once, when it is whole.
            if self.world is not None and self.worst.holds:
                search.ran(self.case, self.worst)

    run_quietly(
        lambda: run_state_machine_as_test(
            seed(task.seed(seed_))(FaultProgram),
            settings=hypothesis_settings(
                examples, (Phase.generate, Phase.shrink), stateful_step_count=_LONGEST_PROGRAM
            ),
        )
    )
    if search.has_failed and not _is_small(search.smallest):
        _try_parts(search, factory, property_, precision)
    return search.result()


def _try_parts(search: Search, factory: StepFactory, property_: StepProperty, precision: Precision) -> None:
    """Try every few actions of the failing program, in their order, under every accumulation.

    Hypothesis' shrinking seldom finds its way from a long window to a short one, where both program and setting change.
    """
    large = search.smallest
    assert isinstance(large, StepCase)
    parts = [part for length in range(1, _SMALL + 1) for part in itertools.combinations(large.actions, length)]
    candidates = [
        replace(large, actions=part, accumulation=accumulation)
        for part in dict.fromkeys(parts)
        for accumulation in ACCUMULATIONS
    ]
    search.allow_shrinking(len(candidates))
    for candidate in candidates:
        search.starting(candidate)
        verdict = check_step_case(factory, property_, precision, candidate)
        run_quietly(lambda case=candidate, v=verdict: search.ran(case, v))  # type: ignore[misc]
        if search.smallest == candidate:
            return
    search.restore_smallest(large)


def _is_small(case: Case | None) -> bool:
    return isinstance(case, StepCase) and case.micro_steps <= _SMALL
