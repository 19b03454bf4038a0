"""What two processes that train together owe each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from harness.cases.descriptors import PassKind
from harness.properties.claim import claim_of, name_of
from harness.properties.verdict import VACUOUS, Verdict, holds_if
from harness.trials.observation import RankState

Pairs = Sequence[tuple[PassKind, PassKind]]
CheckRanks = Callable[[Pairs, Sequence[RankState], Sequence[RankState]], Verdict]


@dataclass(frozen=True)
class RanksProperty:
    """A claim about a training in two processes.

    Attributes:
        name: as ``--property`` takes it.
        claim: the sentence.
        check: gives the verdict from the actions, pass by pass, and what each of the two processes saw.
        passes: what each process's fault program is made of.
    """

    name: str
    claim: str
    check: CheckRanks
    passes: tuple[PassKind, ...]

    def __call__(self, actions: Pairs, first: Sequence[RankState], second: Sequence[RankState]) -> Verdict:
        return self.check(actions, first, second)


def ranks_property(passes: tuple[PassKind, ...]) -> Callable[[CheckRanks], RanksProperty]:
    """Make a function a property whose claim is its docstring.

    Raises:
        TypeError: the function has no docstring.
        UsageError: Python was told to leave all docstrings out.
    """

    def made(check: CheckRanks) -> RanksProperty:
        return RanksProperty(name_of(check), claim_of(check), check, passes)

    return made


@ranks_property(passes=tuple(kind for kind in PassKind if kind not in (PassKind.FROZEN, PassKind.RESTORE)))
def ranks_agree(actions: Pairs, first: Sequence[RankState], second: Sequence[RankState]) -> Verdict:
    """Two processes that train together decide alike and stay equal to the bit, whatever befalls one of them, and
    neither waits for ever.

    What the two processes saw is compared pass by pass. A list ends early where a pass of either raised.
    """
    bad_window = False
    for index, (kinds, states) in enumerate(zip(actions, zip_longest(first, second), strict=False)):
        label = f"{kinds[0].value} beside {kinds[1].value}"
        for rank, state in enumerate(states):
            if state is not None and state.raised is not None:
                return holds_if(False, f"{label}: rank {rank} raises {state.raised}")
        if None in states:
            # The other raised later on, and this one had not got so far.
            continue
        if differing := _differences(*states):
            return holds_if(False, f"{label}: after pass {index + 1} the ranks differ in {', '.join(differing)}")
        bad_window |= any(s.loss is not None and not math.isfinite(s.loss) for s in states)
        if bad_window and states[0].stepped:
            return holds_if(False, f"{label}: both stepped, though one's loss was NaN or inf")
        if states[0].stepped is not None:
            bad_window = False
    return VACUOUS


def _differences(first: RankState, second: RankState) -> list[str]:
    named = {
        "parameters": "parameters",
        "whether they stepped": "stepped",
        "passes": "passes",
        "updates": "updates",
        "learning rate": "learning_rate",
        "scale": "scale",
    }
    return [words for words, field in named.items() if getattr(first, field) != getattr(second, field)]
