"""Which part of the space of cases was run: how many cases had each value of each feature, which values none had."""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.cases.descriptors import (
    Action,
    Case,
    Flaw,
    Hidden,
    LossCase,
    MaskKind,
    MaskValues,
    PassKind,
    PerturbationKind,
    PictureKind,
    ProgramCase,
    StepCase,
    TrainingCase,
    with_actions,
)
from harness.cases.strategies import (
    ACCUMULATIONS,
    GROWTH_INTERVALS,
    NEAR_IDENTICAL,
    STEP_ACCUMULATIONS,
    STEP_SCALE_EXPONENTS,
    TRAINING_SCALE_EXPONENTS,
)
from harness.cases.worlds import OptimizerKind, ParameterKind, Saving, World

# Where the bands of a number begin; the last has no end.
_SIDES = (11, 17, 33, 65, 129)
_PIXELS = (1, 2, 10, 100, 1000)
_IMAGES = (1, 2, 3, 5)
_LENGTHS = (1, 2, 4, 7, 11)
# Of magnitudes, in units of the images' range.
_MAGNITUDES = ((1e-2, "0.01 and more"), (1e-4, "0.0001 to 0.01"), (1e-6, "0.000001 to 0.0001"), (0.0, "less"))
_DRAWN_MASKS = (MaskKind.LINE, MaskKind.DISC, MaskKind.BLOB, MaskKind.BORDER, MaskKind.ISLANDS)
_OWN_PICTURES = {("picture", PictureKind.FILE.value), ("mask", MaskKind.OWN.value)}
NONE = "none"


def _band(bounds: Sequence[int], number: int) -> str:
    place = max(0, bisect_right(bounds, number) - 1)
    return _bands(bounds)[place]


def _bands(bounds: Sequence[int]) -> list[str]:
    ends = [*(start - 1 for start in bounds[1:]), None]
    return [
        f"{start} and more" if end is None else str(start) if end == start else f"{start} to {end}"
        for start, end in zip(bounds, ends, strict=True)
    ]


def _values(*kinds: type[enum.Enum]) -> list[str]:
    return [str(member.value) for kind in kinds for member in kind]


def _texts(numbers: Iterable[int]) -> list[str]:
    return [str(number) for number in sorted(numbers)]


_PROGRAM = {"length": _bands(_LENGTHS), "growth interval": _texts(GROWTH_INTERVALS)}
SPACE: Mapping[str, Mapping[str, Sequence[str]]] = {
    "loss": {
        "mask": _values(MaskKind),
        "mask pixels": _bands(_PIXELS),
        "mask values": _values(MaskValues),
        "picture": _values(PictureKind),
        "longer side": _bands(_SIDES),
        "images": _bands(_IMAGES),
        "perturbation": _values(PerturbationKind),
        "magnitude": [words for _, words in _MAGNITUDES],
        "hidden": _values(Hidden),
        "flaw": [NONE, *_values(Flaw)],
    },
    "step": {
        "action": _values(Action),
        "accumulation": _texts(STEP_ACCUMULATIONS),
        "scale exponent": _texts(STEP_SCALE_EXPONENTS),
        **_PROGRAM,
        "optimizer": _values(OptimizerKind),
        "parameters": _values(ParameterKind),
        "clip norm": ["1", "0.25", "4", "0", NONE],
        "schedule": ["a schedule", "no schedule"],
        "saving": _values(Saving),
    },
    "training": {
        "action": _values(PassKind),
        "accumulation": _texts(ACCUMULATIONS),
        "scale exponent": _texts(TRAINING_SCALE_EXPONENTS),
        **_PROGRAM,
        "ranks": ["one", "two"],
    },
}
"""By kind of case: the features, and of each the values that there are to be met, in the order of reports."""


def features_of(case: Case) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The kind of case, and the features with a value that it has; of actions, several."""
    if isinstance(case, LossCase):
        return "loss", tuple(_of_loss(case))
    if isinstance(case, StepCase):
        return "step", (*_of_program(case), *_of_world(case.world))
    return "training", (*_of_program(case), ("ranks", "two" if case.second_rank else "one"))


def _of_loss(case: LossCase) -> Iterable[tuple[str, str]]:
    yield "mask", case.mask.kind.value
    if case.mask.kind in _DRAWN_MASKS:
        yield "mask pixels", _band(_PIXELS, case.mask.pixels)
    yield "mask values", case.mask.values.value
    yield "picture", case.picture.kind.value
    yield "longer side", _band(_SIDES, max(case.height, case.width))
    yield "images", _band(_IMAGES, case.images)
    yield "perturbation", case.perturbation.kind.value
    if case.perturbation.kind in NEAR_IDENTICAL:
        yield "magnitude", next(words for least, words in _MAGNITUDES if case.perturbation.magnitude >= least)
    yield "hidden", case.hidden.value
    yield "flaw", NONE if case.flaw is None else case.flaw.value


def _of_program(case: ProgramCase) -> Iterable[tuple[str, str]]:
    actions: tuple[Action | PassKind, ...] = case.actions
    if isinstance(case, TrainingCase):
        actions = (*actions, *case.second_rank)
    for action in dict.fromkeys(actions):
        yield "action", action.value
    yield "accumulation", str(case.accumulation)
    yield "scale exponent", str(case.scale_exponent)
    yield "growth interval", str(case.growth_interval)
    yield "length", _band(_LENGTHS, len(case.actions))


def _of_world(world: World) -> Iterable[tuple[str, str]]:
    yield "optimizer", world.optimizer.value
    yield "parameters", world.parameters.value
    yield "clip norm", NONE if world.clip_norm is None else format(world.clip_norm, "g")
    yield "schedule", "a schedule" if world.scheduled else "no schedule"
    yield "saving", world.saving.value


@dataclass
class Coverage:
    """How many cases there were, and how many of them had each value of each feature, by kind of case."""

    cases: Counter[str] = field(default_factory=Counter)
    counts: dict[str, dict[str, Counter[str]]] = field(default_factory=dict)

    def count(self, cases: Iterable[Case]) -> None:
        """These were run too, each once."""
        for case in cases:
            kind, features = features_of(case)
            self.cases[kind] += 1
            of_kind = self.counts.setdefault(kind, {})
            for feature, value in features:
                of_kind.setdefault(feature, Counter())[value] += 1

    def add(self, other: Coverage) -> None:
        """What the other counted counts here as well."""
        self.cases.update(other.cases)
        for kind, features in other.counts.items():
            for feature, values in features.items():
                self.counts.setdefault(kind, {}).setdefault(feature, Counter()).update(values)

    def rows(self) -> Iterable[tuple[str, str, Sequence[tuple[str, int]]]]:
        """By kind of case and feature the values that were met, in their order, and how often."""
        for kind in (kind for kind in SPACE if self.cases[kind]):
            for feature, space in SPACE[kind].items():
                counted = self.counts[kind].get(feature, Counter())
                others = sorted(set(counted) - set(space))
                yield kind, feature, [(value, counted[value]) for value in (*space, *others) if counted[value]]

    def never_run(self, own_pictures: bool) -> Iterable[tuple[str, str, Sequence[str]]]:
        """By kind of case and feature, the values that no case had.

        Args:
            own_pictures: a user's pictures and their masks were to be had.
        """
        for kind in (kind for kind in SPACE if self.cases[kind]):
            for feature, space in SPACE[kind].items():
                counted = self.counts[kind].get(feature, Counter())
                left = [v for v in space if not counted[v] and (own_pictures or (feature, v) not in _OWN_PICTURES)]
                if left:
                    yield kind, feature, left

    def as_json(self) -> dict[str, Any]:
        """Plain values; what wasn't met is left out."""
        return {
            kind: {"cases": self.cases[kind], **{f: dict(values) for f, values in self.counts.get(kind, {}).items()}}
            for kind in SPACE
            if self.cases[kind]
        }


def coverage_from_json(data: Any) -> Coverage:
    """What :meth:`Coverage.as_json` gave.

    Raises:
        ValueError: it is something else.
    """
    found = Coverage()
    if not isinstance(data, Mapping):
        raise ValueError("coverage must be an object")
    for kind, features in data.items():
        if kind not in SPACE or not isinstance(features, Mapping):
            raise ValueError("coverage is of no kind of case")
        for feature, values in features.items():
            if feature == "cases":
                found.cases[kind] = _count(values)
                continue
            if feature not in SPACE[kind] or not isinstance(values, Mapping):
                raise ValueError("coverage has a feature that there isn't")
            counted = Counter({str(value): _count(count) for value, count in values.items()})
            found.counts.setdefault(kind, {})[feature] = counted
    return found


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("a count must be a whole number from 0 up")
    return value


def whole_programs(begun: Iterable[Case]) -> Collection[Case]:
    """The cases that were begun, each once: a program is begun anew with each of its actions, and counts as a whole."""
    found: dict[Case, None] = {}
    last: Case | None = None
    for case in begun:
        if last is not None and not _goes_on(last, case):
            found.setdefault(last)
        last = case
    if last is not None:
        found.setdefault(last)
    return found.keys()


def _goes_on(last: Case, case: Case) -> bool:
    if isinstance(last, LossCase) or isinstance(case, LossCase) or type(last) is not type(case):
        return False
    shorter = with_actions(case, case.actions[: len(last.actions)])
    return shorter == last and len(case.actions) > len(last.actions)
