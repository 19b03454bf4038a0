"""What the oracle says of pictures and points, and which forms fit losses, as plain values, to be recorded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import torch
from torch import Tensor

from harness.cases.descriptors import (
    LossCase,
    Mask,
    MaskKind,
    Perturbation,
    PerturbationKind,
    Picture,
    PictureKind,
)
from harness.cases.loss_inputs import LossInputs, MaskedPair, PointMap
from harness.cases.scenes import SceneCase, build_scene
from harness.cases.tensors import build_pair
from harness.oracle import form_fitting
from harness.oracle.definitions import DEFINITIONS, LossDefinition
from harness.oracle.flatness import flatness
from harness.oracle.form_fitting import fitting
from harness.oracle.probe_pairs import TOGETHER, probe_pairs
from harness.oracle.splatting import WHITE, splatting_truth
from harness.oracle.ssim_forms import USUAL, Combination, Padding, Shown, SsimForm
from harness.oracle.truth import Truth


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
