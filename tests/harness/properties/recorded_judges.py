"""What the oracle says and how the properties measure, as plain values: ``recorded_judges.json`` holds what it was.

``python -m tests.harness.properties.recorded_judges`` records anew; the difference is to be read.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.cases.descriptors import (
    Action,
    Flaw,
    LossCase,
    Mask,
    MaskKind,
    Perturbation,
    PerturbationKind,
    Picture,
    PictureKind,
    StepCase,
)
from harness.cases.loss_inputs import LossInputs, MaskedPair, PointMap
from harness.cases.scenes import SceneCase, build_scene
from harness.cases.tensors import build_pair
from harness.cases.worlds import OptimizerKind, ParameterKind, World
from harness.errors import UsageError
from harness.oracle import form_fitting, levels, optimizer_model, step_world, window
from harness.oracle.budget import budget
from harness.oracle.definitions import DEFINITIONS, LossDefinition
from harness.oracle.flatness import flatness
from harness.oracle.form_fitting import fitting
from harness.oracle.levels import Level, gravest, noise
from harness.oracle.policies import CLIP_NORM, NORM_FACTOR, PROMISED, Policies, with_promises
from harness.oracle.probe_pairs import TOGETHER, probe_pairs
from harness.oracle.splatting import WHITE, splatting_truth
from harness.oracle.ssim_forms import USUAL, Combination, Padding, Shown, SsimForm
from harness.oracle.step_model import StepModel, rounded_to
from harness.oracle.truth import Truth
from harness.precision import PRECISIONS
from harness.properties import LOSS_PROPERTIES, STEP_PROPERTIES, sampling
from harness.properties.verdict import VACUOUS, Rounding, Verdict, at_least_zero, at_most, holds_if, relative_to, within
from harness.protocols import LossKind

FILE = Path(__file__).with_name("recorded_judges.json")
_VALUES = (0.0, 0.25, 1.0, 1.5, 3.0, -1.0, math.inf, math.nan)
_ACTIONS = tuple(Action)


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


def truths() -> Any:
    """Of each definition, on the probe pairs or on points, with its uncertainties."""
    origin = _waves(1, 2, 3, 1, 1).expand(2, 3, 4, 5)
    xyz, direction, mask = _waves(2, 2, 3, 4, 5), _waves(3, 2, 3, 4, 5), _waves(4, 2, 1, 4, 5).abs()
    direction = direction / direction.norm(dim=1, keepdim=True)
    # One is on its ray, where its distance has a kink.
    xyz[0, :, 0, 0] = origin[0, :, 0, 0] + 2.0 * direction[0, :, 0, 0]
    points = PointMap(xyz, origin, direction, mask)
    kernels = [(_waves(5 + i, 3, 3, 3, 3) / 3, _waves(30 + i, 3)) for i in range(14)]
    large = LossCase(161, 161, 1, 1, 5, Picture(PictureKind.TEXTURE), Mask(MaskKind.DISC, 9000))
    wide = build_pair(replace(large, perturbation=Perturbation(PerturbationKind.NOISE, 0.2)))
    found = {}
    for name, one in DEFINITIONS.items():
        inputs: LossInputs = points if one.on_points else wide if one.smallest_side > 16 else probe_pairs()
        found[name] = _truth(one, inputs, kernels)
    images = probe_pairs()
    return found | {
        "flatness": [
            flatness(images.rendering[i : i + 1], images.target[i : i + 1], side) for side in (7, 11) for i in range(10)
        ],
        "pairs": [images.rendering, images.target, images.mask],
        "together": TOGETHER,
    }


def edges() -> Any:
    """Truths where the probe pairs don't go, of pictures, of a network and of points; and flatness there."""
    pairs, found = _edge_pairs(), {}
    for name, one in DEFINITIONS.items():
        if not one.on_points and not one.needs_convolutions and one.smallest_side <= 16:
            found[name] = {what: one.truth(pair, None) for what, pair in pairs.items()}
    # Of equal pictures every activation lies on a kink of the distance.
    kernels = [(_waves(5 + i, 2, 3 if i == 0 else 2, 3, 3) / 3, _waves(30 + i, 2) / 8) for i in range(14)]
    network = DEFINITIONS["perceptual"]
    picture = 0.5 + 0.2 * _waves(1, 1, 3, 16, 19)
    found["perceptual"] = {
        str(by): network.truth(MaskedPair(picture, picture + by, torch.ones(1, 1, 16, 19)), kernels)
        for by in (0.0, 1e-6, 1e-3)
    }
    # From as near the ray as float32's rounding to as far from it as that is sure of.
    origin, direction = _waves(1, 2, 3, 1, 1).expand(2, 3, 3, 4), _waves(3, 2, 3, 3, 4)
    direction = direction / direction.norm(dim=1, keepdim=True)
    beside = torch.linspace(-6.5, -2.0, 12, dtype=torch.float64).reshape(3, 4)
    xyz = origin + 2.0 * direction + 10.0**beside * _waves(2, 2, 3, 3, 4)
    points = PointMap(xyz, origin, direction, _waves(4, 2, 1, 3, 4).abs())
    found["points"] = {name: one.truth(points, None) for name, one in DEFINITIONS.items() if one.on_points}
    patch = pairs["large, a patch differs"]
    sides = (patch.rendering, patch.target, patch.mask), (patch.target, patch.rendering, patch.mask)
    found["forms"] = [SsimForm(padding).parts(pair) for padding in Padding for pair in sides]
    found["flatness"] = {
        what: [
            flatness(x[:1], y[:1], window, uniform, seen)
            for x, y in ((pair.rendering, pair.target), (pair.target, pair.rendering))
            for window, uniform in ((7, True), (11, False), (11, True), (21, False))
            for seen in (None, pair.mask[:1] > 0.5, pair.mask[:1] > 9.0)
        ]
        for what, pair in pairs.items()
    }
    infinite = torch.full((1, 3, 13, 17), math.inf, dtype=torch.float64)
    found["flatness"]["infinite"] = flatness(infinite, infinite * 0.5, 11)
    return found


def _edge_pairs() -> Mapping[str, MaskedPair]:
    """By what they are: in float64, two images each."""

    def pair(height: int, width: int, mask: Tensor, change: Callable[[Tensor], Tensor], bright: float) -> MaskedPair:
        rendering = bright + 0.2 * _waves(1, 2, 3, height, width)
        return MaskedPair(rendering, change(rendering), mask)

    one, none = torch.zeros(2, 1, 13, 17, dtype=torch.float64), torch.zeros(2, 1, 13, 17, dtype=torch.float64)
    one[1, :, 6, 9], none[1, :, 3:9, 5:] = 1.0, 1.0
    patch = torch.zeros(2, 1, 44, 52, dtype=torch.float64)
    patch[:, :, 12:20, 31:35] = 1.0
    return {
        "opposite": pair(13, 17, torch.ones_like(one), lambda x: 1.0 - x, 0.5),
        "opposite, one pixel shown": pair(13, 17, one, lambda x: 1.0 - x, 0.5),
        "brighter, nothing shown of the first": pair(13, 17, none, lambda x: x + 0.0625, 0.75),
        "brighter, halves shown": pair(
            13, 17, (_waves(7, 2, 1, 13, 17) * 2).round().abs() / 2, lambda x: x + 0.0625, 0.5
        ),
        "large, a patch differs": pair(44, 52, patch, lambda x: x + 0.25 * patch, 0.5),
        "large, all differs": pair(44, 52, torch.ones_like(patch), lambda x: x * 0.75, 0.5),
    }


def _waves(which: int, *shape: int) -> Tensor:
    """In [−1, 1], the same on every machine."""
    return torch.sin((which + 0.37) * torch.arange(1, math.prod(shape) + 1, dtype=torch.float64)).reshape(shape)


def _truth(one: LossDefinition, inputs: LossInputs, kernels: Sequence[Any]) -> Truth:
    return one.truth(inputs, kernels if one.needs_convolutions else None)


def forms() -> Any:
    """Pictures of scenes, and every form of SSIM: its values on the probe pairs, and which one is found by them."""
    images, found = probe_pairs(), {}
    tensors = images.rendering, images.target, images.mask
    for padding, shown, (size, gaussian) in product(Padding, Shown, ((11, True), (7, False))):
        form = SsimForm(padding, size, gaussian, shown)
        parts = form.parts(tensors)
        made = Combination(form, 1.0, -0.75, 0.25, 0.5)
        # It tries form after form.
        tried = fitting(images, (1.0 - parts[0]).tolist(), True) if shown is Shown.GREY and gaussian else ()
        fits = [fit and fit.combination.formula for fit in tried]
        sides = [form.smallest_side, made.lower, made.upper, made.zero_at_identity]
        found[form.words] = [*parts, made.truth(images), made.formula, *sides, fits]
    told = SsimForm(sigma=2.5), SsimForm(sigma=float("1.5"), constants=replace(USUAL)), SsimForm(pooled=True)
    scenes = SceneCase(12, 2, 16, 3), SceneCase(0), SceneCase(40, 1, 12, 5), SceneCase(150, 1, 8, 2)
    return found | {
        # The fewest digits that fit, six at most.
        "digits": [
            fit and fit.combination
            for factor in (0.5, 0.1200009, 0.1230009, 0.1234009, 0.12345, 0.12345649)
            for fit in fitting(images, (factor - factor * SsimForm().parts(tensors)[0]).tolist(), True)
        ],
        "windows": [form_fitting.WINDOWS, form_fitting.OTHER_WINDOWS],
        "words": [(form.words, form.of_pixels) for form in (*told, SsimForm(gaussian=False, sigma=2.0))],
        "scenes": [
            splatting_truth(build_scene(scene), background)
            for scene in scenes
            for background in (WHITE, (0.0, 0.5, 1.0))
        ],
        "names": [
            Combination(SsimForm(), *given).formula
            for given in ((0.0, 1.0), (0.5, -0.5), (0.0, -1.0, 1.0), (2.0, 0.0, 0.0, -0.3))
        ],
    }


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


def steps() -> Any:
    """Worlds, rules and what the model says of a program of all actions, in each world of parameters."""
    wanting = [
        Policies(), Policies(clip_norm=None, norm_limit=None), Policies(clip_value=0.25, norm_limit=1e3),
        Policies(clip_norm=0.5),
    ]  # fmt: skip
    elements = {"a": 2, "b": 3}
    outcomes = [
        window.window_outcome(finite, norm, window.ScalerState(8.0, tracker), interval, policies)
        for finite, norm, tracker, interval, policies in product(
            (True, False), (None, 0.5, 20.0, 21.0, math.inf, math.nan), (0, 1), (2, None),
            (PROMISED, Policies(norm_limit=None, drops_nonfinite_loss=False)),
        )
    ]  # fmt: skip
    return {
        "constants": [CLIP_NORM, NORM_FACTOR, step_world.GRADIENT, step_world.NEAR, window.GROWTH, window.BACKOFF],
        "optimizers": {kind: _optimized(kind) for kind in OptimizerKind},
        "promises": [
            with_promises(PROMISED, given.split())
            for given in ("clip-norm=2 norm-limit=none", "clip-value=.5 drops-nonfinite-loss=no", "counts-attempts=yes")
        ],
        "optimizer": [optimizer_model.MOMENTUM, optimizer_model.BETAS, optimizer_model.EPSILON],
        "refused": [_refused(given) for given in ("clip-norm=-1", "clip-norm=0", "norm-limit=nan", "clip-value=inf",
                                                   "clip-norm=x", "counts-attempts=1", "clip=1")],
        "on zeros": {kind: _on_zeros(kind) for kind in OptimizerKind},
        "near": [
            step_world.gradients_of(action, kind, step_world.parameters_of(kind), policies)
            for kind in (ParameterKind.ALIKE, ParameterKind.UNEQUAL)
            for action in step_world.NEAR for policies in wanting
        ],
        "parameters": {kind: step_world.parameters_of(kind) for kind in ParameterKind},
        "gradients": {
            f"{kind.value}, {action.value}": step_world.gradients_of(
                action, kind, step_world.parameters_of(kind), PROMISED
            )
            for kind in ParameterKind for action in _ACTIONS
        },
        "norms": [step_world.norm_of(given, elements) for given in ({}, {"a": 1.0}, {"a": 1.0, "b": -2.0})],
        "clipped": [
            policies.clipped(given, elements) for policies in wanting for given in ({"a": 0.5}, {"a": 3.0, "b": -0.5})
        ],
        "handed": [
            policies.handed(norm, promised)
            for policies in wanting for norm in (None, 0.0, CLIP_NORM, 4.0) for promised in (True, False)
        ],
        "outcomes": outcomes,
        "rounded": [
            [rounded_to(number, dtype) for dtype in (torch.float16, torch.bfloat16, torch.float32)]
            for number in (0.0, 1 / 3, -1 / 3, 65520.0, 65519.0, 2.0**-25, 1.1 * 2.0**-25, 1e-6, 1e39, math.inf)
        ],
        "programs": {
            f"{kind.value}, {accumulation}, {scaled}": _program(kind, accumulation, scaled)
            for kind in ParameterKind for accumulation, scaled in ((1, True), (2, False), (3, True))
        },
        "other worlds": [
            _program(ParameterKind.ALIKE, 1, True, world)
            for world in (World(clip_norm=None), World(clip_norm=0.0), World(clip_norm=4.0), World(scheduled=False),
                          World(optimizer=OptimizerKind.ADAMW))
        ],
    }  # fmt: skip


def _refused(promise: str) -> str:
    """The words of its refusal."""
    try:
        return str(with_promises(PROMISED, [promise]))
    except UsageError as error:
        return str(error)


def _on_zeros(kind: OptimizerKind) -> Any:
    """Where a window without gradients leads that is taken for one of zeros."""
    model = StepModel(StepCase(world=World(optimizer=kind)), False)
    for action in (Action.GOOD, Action.FROZEN):
        model.after(action)
    model.step_on_zeros()
    return dict(model.values)


def _optimized(kind: OptimizerKind) -> list[float]:
    optimizer, values = optimizer_model.ScalarOptimizer(kind, 0.125), [1.0]
    for gradient in (0.5, -2.0, 0.0, 0.25):
        values.append(optimizer.step(values[-1], gradient, 0.0625))
    return values


def _program(kind: ParameterKind, accumulation: int, scaled: bool, world: World | None = None) -> Iterable[Any]:
    case = StepCase(accumulation=accumulation, scale_exponent=12, growth_interval=2)
    model = StepModel(replace(case, world=replace(world or World(), parameters=kind)), scaled)
    good = [Action.GOOD] * accumulation
    # Each is followed by a window that is good.
    actions = [action for one in _ACTIONS if one is not Action.RESTORE for action in (one, *good[1:], *good)]
    found = [model.after(action) for action in actions]
    # Whatever was dropped, why, and where it all ended; each step's numbers in one line.
    return [
        [seen.stepped, seen.moved, seen.grad_norm, seen.updates, seen.learning_rate, len(seen.scaler),
         seen.scaler[0].scale, seen.scaler[0].growth_tracker, seen.fault, *seen.parameters.values()]
        for seen in found if seen.window_ended
    ]  # fmt: skip


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
