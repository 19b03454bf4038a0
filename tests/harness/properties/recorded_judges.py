"""What the oracle says and how the properties measure, as plain values: ``recorded_judges.json`` holds what it was.

``python -m tests.harness.properties.recorded_judges`` records anew; the difference is to be read.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.cases.descriptors import (
    Flaw,
    MaskKind,
    PerturbationKind,
)
from harness.oracle import levels
from harness.oracle.budget import budget
from harness.oracle.definitions import DEFINITIONS
from harness.oracle.levels import Level, gravest, noise
from harness.oracle.truth import Truth
from harness.precision import PRECISIONS
from harness.properties import LOSS_PROPERTIES, STEP_PROPERTIES, sampling
from harness.properties.verdict import VACUOUS, Rounding, Verdict, at_least_zero, at_most, holds_if, relative_to, within
from harness.protocols import LossKind
from tests.harness.properties.recorded_steps import steps
from tests.harness.properties.recorded_truths import edges, forms, truths

FILE = Path(__file__).with_name("recorded_judges.json")
_VALUES = (0.0, 0.25, 1.0, 1.5, 3.0, -1.0, math.inf, math.nan)


def plain(value: Any) -> Any:
    """As JSON has it; a callable by its name, a tensor by what of it is above 0 and below, weighed by place."""
    if isinstance(value, enum.Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return {part.name: plain(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, Truth):
        names = ("value", "gradient", "value_uncertainty", "gradient_uncertainty")
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, Tensor):
        flat = value.detach().double().flatten()
        weighed = flat * (1.5 + torch.cos(0.7 * torch.arange(len(flat), dtype=torch.float64)))
        return [float(weighed.clamp(min=0.0).sum()), float(weighed.clamp(max=0.0).sum())]
    if isinstance(value, Mapping):
        return {str(plain(name)): plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(part) for part in (sorted(value, key=str) if isinstance(value, set) else value)]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return getattr(value, "__name__", str(value)) if callable(value) else value


def definitions() -> Any:
    """Every attribute, and what is drawn for each."""
    flaws, kinds = (None, *Flaw), tuple(PerturbationKind)
    return {
        name: {
            "is": one,
            "noise": [one.noise(), one.noise(1.0)],
            "sides": sampling.sides(one),
            "flaws": sampling.flaws(one, flaws),
            "kinds": len(sampling.perturbations(one, kinds)),
            "masks": sampling.masks(one, (MaskKind.EMPTY, MaskKind.FULL, MaskKind.BLOB)),
            "magnitudes": sampling.magnitudes(one),
            "counted": one.counted(torch.tensor([-1.0, 0.0, 0.25, 0.5, 0.75])).tolist(),
            "hides": one.sets_hidden_aside,
            "mask": one.why_mask_says_nothing,
            "range": [one.range_unknown, replace(one, lower=-float("inf")).range_unknown],
        }
        for name, one in DEFINITIONS.items()
    }


def properties() -> Any:
    """Every attribute, and which losses each is of."""
    shown = [
        DEFINITIONS[name] for name in ("masked-ssim", "ssim", "mse", "background", "perceptual", "pixel-alignment")
    ]
    found: dict[str, Any] = {}
    for of_loss in LOSS_PROPERTIES:
        reasons = [of_loss.inapplicable(kind, one) for kind, one in product(LossKind, shown)]
        found[of_loss.name] = {"is": of_loss, "inapplicable": reasons}
    return found | {f"step {of_step.name}": {"is": of_step} for of_step in STEP_PROPERTIES}


def numbers() -> Any:
    """Budgets, noise and its levels, and how measurements become verdicts."""
    makers: dict[str, Callable[[float], Verdict]] = {
        "at most 1": lambda value: at_most(value, 1.0, "words"),
        "at most 0": lambda value: at_most(value, 0.0, "words"),
        "within": lambda value: within(value, 0.0, 2.0, "words"),
        "at least zero": lambda value: at_least_zero(value, "words"),
        "relative": lambda value: relative_to(0.5, abs(value), 2.0, "words"),
        "relative to noise": lambda value: relative_to(0.5, abs(value), 1.0, "words", lambda: Rounding(2.0)),
        "relative to less noise": lambda value: relative_to(0.5, abs(value), 4.0, "words", lambda: Rounding(2.0)),
        "relative to nothing": lambda value: relative_to(0.5, abs(value), 0.0, "words"),
        "rounding": lambda value: relative_to(0.5, abs(value), 1.0, "words", lambda: Rounding(2.0, Level.ROUNDING)),
        "definition": lambda value: relative_to(0.5, abs(value), 1.0, "words", lambda: Rounding(2.0, Level.DEFINITION)),
        "holds": lambda value: holds_if(value > 0, "words", value),
    }
    noises = [noise(*given) for given in product((True, False), (1.0, 0.25), (0.0, 0.05, 1.0), (0, 49, 121))]
    one = noise(True)
    return {
        "budgets": {
            f"{precision.name} {scale:g}": budget(precision, scale)
            for precision, scale in product(PRECISIONS, (1.0, 1024.0))
        } | {f"{precision.name} unscaled": budget(precision) for precision in PRECISIONS},
        "noises": noises,
        "constants": {name: value for name, value in vars(levels).items() if isinstance(value, float)},
        "at": [one.at(value) for value in (0.0, 5e-4, -5e-4, 6e-4)],
        "levels": [
            [of(error) for error in (1e-4, 5e-4, 6e-4, 1e-2, 2e-2, 3e-2, 0.15, 0.2, math.nan)]
            for of in (one.of_value, lambda e: one.of_gradient(e / 4, 16), lambda e: one.of_element(e / 16, 16))
        ],
        "gravest": [gravest(*pair) for pair in product(Level, Level)],
        "verdicts": {
            name: [
                [made.holds, made.quantity, made.badness, made.message, made.level, made.gravity]
                for made in map(make, _VALUES)
            ]
            for name, make in makers.items()
        },
        "vacuous": VACUOUS,
    }  # fmt: skip


SECTIONS: Mapping[str, Callable[[], Any]] = {
    "definitions": definitions,
    "properties": properties,
    "truths": truths,
    "edges": edges,
    "forms": forms,
    "numbers": numbers,
    "steps": steps,
}


def _written() -> str:
    """A line for each part of a section."""
    sections = []
    for name, made in SECTIONS.items():
        parts = [
            f"  {json.dumps(part)}: {json.dumps(value, ensure_ascii=False)}" for part, value in plain(made()).items()
        ]
        sections.append(f" {json.dumps(name)}: {{\n" + ",\n".join(parts) + "\n }")
    return "{\n" + ",\n".join(sections) + "\n}\n"


if __name__ == "__main__":
    FILE.write_text(_written(), encoding="utf-8")
