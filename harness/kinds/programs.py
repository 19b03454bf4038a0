"""What kinds have in common whose cases are fault programs: run action by action, and shortened."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from hypothesis import strategies as st

from harness.cases.descriptors import Action, PassKind, ProgramCase, StepCase, TrainingCase, with_actions
from harness.cases.strategies import ACCUMULATIONS, GROWTH_INTERVALS
from harness.cases.worlds import describe_world
from harness.errors import UsageError, unknown_name
from harness.kinds.kind import Judged, Starting
from harness.properties.verdict import VACUOUS, Verdict
from harness.trials.observation import Observation

# Micro-steps that a person can follow.
SMALL = 3

A = TypeVar("A", Action, PassKind)
PC = TypeVar("PC", StepCase, TrainingCase)


@dataclass(frozen=True)
class JudgedAction:
    """A property's verdict on one action, and whether the program ends here because the subject raised."""

    verdict: Verdict
    raised: bool


class ProgramRun(Protocol):
    """A program that has been started."""

    def act(self, action: Any) -> JudgedAction:
        """Run one more action."""


def judge_program(case: ProgramCase, begin: Callable[[], ProgramRun], starting: Starting) -> Judged:
    """The first violation, and the program up to there; else the worst verdict."""
    run, worst = begin(), VACUOUS
    for done in range(1, len(case.actions) + 1):
        so_far = with_actions(case, case.actions[:done])
        starting(so_far)
        judged = run.act(so_far.actions[-1])
        if not judged.verdict.holds:
            return Judged(judged.verdict, so_far)
        worst = max(worst, judged.verdict, key=lambda v: v.badness)
        if judged.raised:
            break
    return Judged(worst, case)


def program_cases(
    case: type[PC],
    actions: Sequence[Action | PassKind],
    scale_exponents: Sequence[int],
    longest: int,
    accumulations: Sequence[int] = ACCUMULATIONS,
    **more: st.SearchStrategy[Any],
) -> st.SearchStrategy[PC]:
    """Settings, and programs of up to so many actions; ``more`` are the case's further fields."""
    program = st.lists(st.sampled_from(list(actions)), min_size=1, max_size=longest)
    return st.builds(
        case,
        st.sampled_from(list(accumulations)),
        st.sampled_from(list(scale_exponents)),
        st.sampled_from(GROWTH_INTERVALS),
        program.map(tuple),
        **more,
    )


def without(actions: Sequence[A], faults: Iterable[str]) -> tuple[A, ...]:
    """The actions but for these, each named with dashes or spaces.

    Raises:
        UsageError: there is no such fault, or nothing is left.
    """
    left_out = {fault.replace("-", " ") for fault in faults}
    of_any_kind = {action.value.replace("-", " ") for action in (*Action, *PassKind)}
    for fault in sorted(left_out - of_any_kind):
        raise unknown_name("fault", fault.replace(" ", "-"), sorted(name.replace(" ", "-") for name in of_any_kind))
    kept = tuple(action for action in actions if action.value.replace("-", " ") not in left_out)
    if not kept:
        raise UsageError(f"without {', '.join(sorted(left_out))} no program is left to run.")
    return kept


def drawn_from(actions: Sequence[Action | PassKind]) -> str:
    """What programs of these actions are called as draws: alike for all properties that take the same."""
    return "programs of " + ", ".join(action.value for action in actions)


def is_short(case: ProgramCase) -> bool:
    """Whether a person can follow it."""
    return case.micro_steps <= SMALL


def parts(case: PC, scale_exponents: Sequence[int], worlds: Sequence[PC] = ()) -> Iterator[PC]:
    """Every few of its actions, in their order, under every accumulation and scale, and under its own; each in
    the simplest world first, in ``worlds``, and in its own.

    Hypothesis' shrinking seldom finds its way from a long program to a short one where the setting changes too.
    """
    actions: Sequence[Any] = case.actions
    chosen = [part for length in range(1, SMALL + 1) for part in itertools.combinations(actions, length)]
    settings = dict.fromkeys(
        [*itertools.product(ACCUMULATIONS, scale_exponents), (case.accumulation, case.scale_exponent)]
    )
    for part in dict.fromkeys(chosen):
        for like, (accumulation, exponent) in itertools.product(worlds or (case,), settings):
            yield replace(like, accumulation=accumulation, scale_exponent=exponent, actions=part)


def describe_program(case: ProgramCase) -> str:
    """The program and its setting in one line."""
    program = _written(case.actions)
    if second := getattr(case, "second_rank", ()):
        program += f" beside {_written(second)}"
    world = describe_world(case.world) if isinstance(case, StepCase) else ""
    setting = f"accumulation {case.accumulation}, scale 2^{case.scale_exponent}" + (f", {world}" if world else "")
    return f"{program} ({setting})"


def _written(actions: Sequence[Action | PassKind]) -> str:
    """The actions by name; what comes several times in a row, once with a number."""
    runs = [(action, len(list(alike))) for action, alike in itertools.groupby(actions)]
    return ", ".join(
        f"{action.value} ×{times}" if times > 3 else ", ".join([action.value] * times) for action, times in runs
    )


def timeline(seen: Sequence[Observation]) -> list[dict[str, Any]]:
    """What was observed, action by action, as plain values."""
    return [
        {
            "action": s.action,
            "loss": s.loss,
            "stepped": None if s.report is None else s.report.stepped,
            "reason": None if s.report is None else s.report.reason,
            "moved": bool(s.before.changed(s.after)),
            "should step": s.expected.stepped,
            "why": s.expected.why,
            "gradient norm": s.expected.grad_norm,
            "scale": s.after.scaler.scale,
            "growth tracker": s.after.scaler.growth_tracker,
            "learning rate": s.after.learning_rate,
            "passes": s.after.passes,
            "updates": s.after.updates,
            "raised": None if s.raised is None else type(s.raised).__name__,
        }
        for s in seen
    ]
