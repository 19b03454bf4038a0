"""How far a quantity has moved from what a golden holds of it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

from harness.files import json_value
from harness.goldens.terms import Array, Numbers, Term, Terms, Tolerance, Words, float32_spacing

TRUTH, RECORDED = "truth", "recorded"


@dataclass(frozen=True)
class Deviation:
    """One term of one golden, then and now.

    Attributes:
        layer: :data:`TRUTH` or :data:`RECORDED`.
        term: its name, with the index of the worst element where it has several.
        then, now: a number or word; of an array, its L2 norm.
        error: |now − then|; of an array, the L2 norm of the difference.
        relative: error as a share of then.
        ulps: error in float32 units in the last place of then; of an array, the worst element's, in those of its
            largest.
        used: error as a share of its tolerance; above 1 it is a failure.
        direction: ``up``, ``down``, ``same`` or ``changed`` (a word).
        cosine: of an array and the recorded one; ``None`` where either is zero or no array.
    """

    golden: str
    precision: str
    layer: str
    term: str
    then: float | int | str | bool | None
    now: float | int | str | bool | None
    error: float
    relative: float
    ulps: float
    used: float
    direction: str
    cosine: float | None = None

    @property
    def within(self) -> bool:
        return self.used <= 1.0

    def as_json(self) -> dict[str, Any]:
        """Plain values; NaN and infinity as text, which JSON lacks."""
        return dict(json_value(asdict(self)))


@dataclass(frozen=True)
class Place:
    """Which golden, precision and layer a comparison is of."""

    golden: str
    precision: str
    layer: str


def deviations(place: Place, then: Terms, now: Terms, tolerances: dict[str, Tolerance]) -> list[Deviation]:
    """Every term's deviation; a term that only one side has is a failure, but that truth may hold fewer.

    In the truth, a NaN means that nothing is claimed of the element.
    """
    found = []
    for name, recorded in then.items():
        if name not in now:
            found.append(_word(place, name, "a value", "nothing"))
        else:
            found.append(_deviation(place, name, recorded, now[name], tolerances.get(name, Tolerance())))
    if place.layer == RECORDED:
        found += [_word(place, name, "nothing", "a value") for name in now if name not in then]
    return found


def _deviation(place: Place, name: str, then: Term, now: Term, tolerance: Tolerance) -> Deviation:
    if isinstance(then, Words) and isinstance(now, Words):
        return _words(place, name, then, now)
    if isinstance(then, Numbers) and isinstance(now, Numbers):
        return _numbers(place, name, then, now, tolerance)
    if isinstance(then, Array) and isinstance(now, Array):
        return _arrays(place, name, then, now, tolerance)
    return _word(place, name, type(then).__name__.lower(), type(now).__name__.lower())


def _words(place: Place, name: str, then: Words, now: Words) -> Deviation:
    if len(then.values) != len(now.values):
        return _word(place, name, f"{len(then.values)} entries", f"{len(now.values)} entries")
    for index, (old, new) in enumerate(zip(then.values, now.values, strict=True)):
        if old != new:
            return _word(place, f"{name}[{index}]", old, new)
    return Deviation(place.golden, place.precision, place.layer, name, None, None, 0.0, 0.0, 0.0, 0.0, "same")


def _word(place: Place, name: str, then: int | str | bool | None, now: int | str | bool | None) -> Deviation:
    infinite = math.inf
    return Deviation(
        place.golden,
        place.precision,
        place.layer,
        name,
        then,
        now,
        infinite,
        infinite,
        infinite,
        infinite,
        "changed",
    )


def _numbers(place: Place, name: str, then: Numbers, now: Numbers, tolerance: Tolerance) -> Deviation:
    if len(then.values) != len(now.values):
        return _word(place, name, f"{len(then.values)} entries", f"{len(now.values)} entries")
    worst: Deviation | None = None
    for index, (old, new) in enumerate(zip(then.values, now.values, strict=True)):
        if place.layer == TRUTH and math.isnan(old):
            continue
        error = _distance(old, new)
        found = Deviation(
            place.golden,
            place.precision,
            place.layer,
            name if then.single else f"{name}[{index}]",
            old,
            new,
            error,
            _share(error, abs(old)),
            _share(error, float32_spacing(old)),
            _share(error, tolerance.bound(abs(old) if math.isfinite(old) else 0.0)),
            "same" if error == 0 else "up" if new > old else "down" if new < old else "changed",
        )
        if worst is None or found.used > worst.used:
            worst = found
    return worst or Deviation(place.golden, place.precision, place.layer, name, None, None, 0.0, 0.0, 0.0, 0.0, "same")


def _arrays(place: Place, name: str, then: Array, now: Array, tolerance: Tolerance) -> Deviation:
    if then.shape != now.shape:
        return _word(place, name, f"shape {list(then.shape)}", f"shape {list(now.shape)}")
    old, new = then.data.double(), now.data.double()
    scale = float(torch.linalg.vector_norm(old[old.isfinite()]))
    same = (old == new) | (old.isnan() & new.isnan())
    difference = torch.where(same, 0.0, new - old)
    error = float(torch.linalg.vector_norm(difference))
    error = math.inf if math.isnan(error) else error
    worst = float(difference.abs().max()) if difference.numel() else 0.0
    finite = old[old.isfinite()].abs()
    largest = float(finite.max()) if finite.numel() else 0.0
    lengths = scale * float(torch.linalg.vector_norm(new))
    return Deviation(
        place.golden,
        place.precision,
        place.layer,
        name,
        then.norm,
        now.norm,
        error,
        _share(error, scale),
        _share(worst, float32_spacing(largest)),
        _share(error, tolerance.bound(scale)),
        "same" if error == 0 else "up" if now.norm > then.norm else "down",
        float((old * new).sum()) / lengths if 0 < lengths < math.inf else None,
    )


def _distance(old: float, new: float) -> float:
    if old == new or (math.isnan(old) and math.isnan(new)):
        return 0.0
    error = abs(new - old)
    return math.inf if math.isnan(error) else error


def _share(part: float, whole: float) -> float:
    if part == 0:
        return 0.0
    return part / whole if whole > 0 else math.inf
