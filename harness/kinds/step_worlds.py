"""Which worlds a step's programs are run in: those that its call can take, the simplest first."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from hypothesis import strategies as st

from harness.cases.descriptors import Action, StepCase
from harness.cases.worlds import OptimizerKind, ParameterKind, Saving, World, differing
from harness.oracle.policies import CLIP_NORM
from harness.subjects.step import StepFactory

# Among them every value of every field, so that few programs meet them all; and beside each another setting.
_TOURED = (
    (World(0.25, OptimizerKind.ADAMW_FOREACH, ParameterKind.UNEQUAL, False, Saving.FILE), 1, 10),
    (World(4.0, OptimizerKind.ADAMW_FUSED, ParameterKind.LATE), 1, 10),
    (World(0.0, OptimizerKind.SGD_FUSED, ParameterKind.ONE_BAD), 1, 3),
    (World(None, OptimizerKind.SGD_FOREACH, ParameterKind.UNUSED, False), 1, 10),
    (World(1.0, OptimizerKind.ADAMW, ParameterKind.GROUPS, True, Saving.FILE), 3, 10),
    (World(1.0, OptimizerKind.SGD, ParameterKind.FROZEN), 1, -2),
    (World(1.0, OptimizerKind.SGD, ParameterKind.ONE_BAD), 1, 24),
)
_LONG = 48
# In a long program one action in so many isn't a good one.
_RARE = 8


def fitted(world: World, factory: StepFactory) -> World:
    """The world with what the step can't be given replaced by the simplest."""
    # Which of several optimizers a parameter that is added later is for, nobody could tell.
    late = factory.several and world.parameters is ParameterKind.LATE
    return replace(
        world,
        clip_norm=world.clip_norm if world.clip_norm in factory.clips else CLIP_NORM,
        parameters=ParameterKind.ALIKE if late else world.parameters,
        scheduled=world.scheduled or not factory.unscheduled,
        saving=world.saving if factory.keeps_state else Saving.COPY,
    )


def worlds(factory: StepFactory) -> st.SearchStrategy[World]:
    """The simplest, and those that differ from it in anything."""
    other = st.builds(
        World,
        st.sampled_from(factory.clips),
        st.sampled_from(OptimizerKind),
        st.sampled_from(ParameterKind),
        st.sampled_from((True, False)),
        st.sampled_from(Saving),
    )
    return st.one_of(st.just(World()), other.map(lambda world: fitted(world, factory)))


def simpler_worlds(world: World) -> Iterator[World]:
    """The simplest, those that differ from it as this one does but in one field only, and this one."""
    yield World()
    different = differing(world)
    if len(different) > 1:
        yield from (replace(World(), **{f.name: getattr(world, f.name)}) for f in different)
    if different:
        yield world


def is_plain(world: World) -> bool:
    """Whether a person takes in what is special about it."""
    return len(differing(world)) <= 1


def first_programs(actions: Sequence[Action], factory: StepFactory, examples: int) -> list[StepCase]:
    """The shortest programs in the simplest world; then tours of all actions through other worlds, and a long one.

    The fewer examples are asked for, the fewer of each.
    """
    near = (Action.UNDER, Action.OVER)
    pairs = [pair for pair in itertools.product(actions, actions) if not set(pair) & set(near)]
    shortest = [*((action,) for action in actions), *pairs][:examples]
    tours = [_tour(actions, fitted(world, factory), *setting) for world, *setting in _TOURED]
    few = [_long(actions), *tours][: examples // len(_TOURED)]
    return list(dict.fromkeys([*(StepCase(actions=program) for program in shortest), *few]))


def drawn_programs(examples: int) -> int:
    """How many are drawn beside the first ones, which take the place of some."""
    return examples - 2 * min(len(_TOURED) + 1, examples // len(_TOURED))


def _tour(actions: Sequence[Action], world: World, accumulation: int, scale_exponent: int) -> StepCase:
    """All actions, each with a window of its own; last what comes after a training, and what ends some steps."""
    late = (Action.RESTORE, Action.FROZEN)
    ordered = [*(action for action in actions if action not in late), *(a for a in late if a in actions)]
    filler = (_usual(actions),)
    between = filler * (accumulation - 1)
    program = [part for action in ordered for part in (action, *between)]
    return StepCase(accumulation, scale_exponent, actions=(*between, *program, *filler), world=world)


def _long(actions: Sequence[Action]) -> StepCase:
    """A long run in which faults are rare."""
    others = itertools.cycle([action for action in actions if action not in (Action.GOOD, Action.FROZEN)] or actions)
    program = [next(others) if at % _RARE == _RARE - 1 else _usual(actions) for at in range(_LONG)]
    return StepCase(actions=tuple(program))


def _usual(actions: Sequence[Action]) -> Action:
    return Action.GOOD if Action.GOOD in actions else actions[0]
