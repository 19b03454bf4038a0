"""Each truth on a tiny case worked out by hand, pixel by pixel in plain Python, and each gradient by differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from gslrm.model.vgg_weights import random_weights
from harness.cases.loss_inputs import LossInputs, MaskedPair, PointMap
from harness.errors import SubjectError, UsageError
from harness.oracle.definitions import DEFINITIONS, definition_named
from harness.oracle.truth import Truth

# Two images of 1×2 pixels; the second has no pixel above 0.5 but one at it.
_RENDERING = [[(0.2, 0.4, 0.6), (1.0, 0.0, 0.5)], [(0.3, 0.3, 0.3), (0.9, 0.8, 0.7)]]
_TARGET = [[(0.1, 0.4, 0.8), (0.5, 0.5, 0.5)], [(0.3, 0.2, 0.3), (0.4, 0.8, 0.7)]]
_MASK = [[1.0, 0.25], [0.5, 0.0]]


def _tensor(rows: list) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).transpose(1, 2)[:, :, None, :]


def _pair() -> MaskedPair:
    return MaskedPair(_tensor(_RENDERING), _tensor(_TARGET), torch.tensor(_MASK, dtype=torch.float64)[:, None, None])


def _truth(name: str, inputs: LossInputs) -> Truth:
    return DEFINITIONS[name].truth(inputs)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Sums of squares over channels: 0.05, 0.5 | 0.01, 0.25.
        ("mse", (0.05 + 0.5 + 0.01 + 0.25) / 12),
        # One pixel of four is in the foreground.
        ("masked-mse", 0.05 / 3),
        # To white: 0.25 and 0.0 in the mask, 1 + 0.25 and 0.01 + 0.04 + 0.09.
        ("background", (1.25 + 0.14) / 6),
        # The mean over images: the second has no foreground.
        ("l2", 0.05 / 3 / 2),
        ("l1", 0.3 / 3 / 2),
    ],
)
def test_errors_of_images(name: str, expected: float) -> None:
    assert _truth(name, _pair()).value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["masked-mse", "background", "l1", "l2"])
def test_where_no_pixel_counts_the_truth_is_zero(name: str) -> None:
    pair = _pair()
    nothing = replace(pair, mask=torch.full_like(pair.mask, 1.0 if name == "background" else 0.0))
    truth = _truth(name, nothing)
    assert truth.value == 0.0
    assert not truth.gradient.any()


def _ssim_of_one_window(x: Tensor, y: Tensor) -> float:
    weight = [[math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / 4.5) for j in range(11)] for i in range(11)]
    total = sum(map(sum, weight))
    pixels = [(weight[i][j] / total, float(x[i, j]), float(y[i, j])) for i in range(11) for j in range(11)]
    mx, my = (sum(p[0] * p[k] for p in pixels) for k in (1, 2))
    vx, vy = (sum(p[0] * (p[k] - m) ** 2 for p in pixels) for k, m in ((1, mx), (2, my)))
    cov = sum(w * (a - mx) * (b - my) for w, a, b in pixels)
    return (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))


def test_ssim_of_the_whole_images_ignores_the_mask() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(1, 3, 11, 11, dtype=torch.float64, generator=generator) for _ in range(2))
    expected = 1.0 - sum(_ssim_of_one_window(x[0, c], y[0, c]) for c in range(3)) / 3
    pair = MaskedPair(x, y, torch.zeros(1, 1, 11, 11))
    assert _truth("ssim", pair).value == pytest.approx(expected, rel=1e-9)
    assert _truth("masked-ssim", pair).value == 0.0


def _points() -> PointMap:
    """Two points, one on the ray along z from the origin, 2 away; one beside the ray along (3, 0, 4)/5, at (5, 1, 0)
    from its camera: 3 along it, √(26 − 9) beside it.
    """
    origin = [(0.0, 0.0, 0.0), (1.0, 2.0, 2.0)]
    xyz = [(0.0, 0.0, 2.0), (6.0, 3.0, 2.0)]
    direction = [(0.0, 0.0, 1.0), (0.6, 0.0, 0.8)]
    mask = torch.tensor([1.0, 0.5], dtype=torch.float64).view(1, 1, 1, 2)
    return PointMap(*(_tensor([part]) for part in (xyz, origin, direction)), mask)


def test_pixel_alignment_by_hand() -> None:
    beside = math.sqrt(17.0)
    truth = _truth("pixel-alignment", _points())
    assert truth.value == pytest.approx(beside / 2, rel=1e-12)
    # The unit vector from the ray's (1.8, 0, 2.4) to (5, 1, 0), halved; on the ray there is none.
    assert truth.gradient[0, :, 0, 1].tolist() == pytest.approx([3.2 / beside / 2, 1 / beside / 2, -2.4 / beside / 2])
    assert truth.gradient[0, :, 0, 0].tolist() == [0.0, 0.0, 0.0]
    # Nothing is known of the first point's direction: up to twice its share of the mean.
    assert truth.gradient_uncertainty == pytest.approx(2 / 2, rel=1e-6)
    assert 0 < truth.value_uncertainty < 1e-5
    masked = _truth("masked-pixel-alignment", _points())
    assert masked.value == pytest.approx(beside / 4, rel=1e-12)
    assert masked.gradient[0, 1, 0, 1].item() == pytest.approx(1 / beside / 4)


def test_points_distance_by_hand() -> None:
    # Distances 2 and √26 are normalised to 0.5/√2 below and above ‖origin‖, which is 0 and 3.
    far, aside = math.sqrt(26.0), 0.5 / math.sqrt(2.0)
    near_off, far_off = 2 - (0 - aside), far - (3 + aside)
    truth = _truth("points-distance", _points())
    assert truth.value == pytest.approx((near_off**2 + far_off**2) / 2, rel=1e-7)
    assert truth.gradient[0, :, 0, 0].tolist() == pytest.approx([0.0, 0.0, near_off], rel=1e-7)
    expected = [far_off * part / far for part in (5.0, 1.0, 0.0)]
    assert truth.gradient[0, :, 0, 1].tolist() == pytest.approx(expected, rel=1e-7)


def test_each_map_of_points_is_normalised_by_itself() -> None:
    points = _points()
    other = replace(points, xyz=points.xyz + torch.tensor([0.3, 0.1, -0.2]).view(1, 3, 1, 1))
    both = PointMap(*(torch.cat(parts) for parts in zip(points.tensors(), other.tensors(), strict=True)))
    alone = [_truth("points-distance", part).value for part in (points, other)]
    assert _truth("points-distance", both).value == pytest.approx(sum(alone) / 2, rel=1e-12)


def _vgg_by_numpy(pair: MaskedPair, convolutions: list[tuple[Tensor, Tensor]]) -> float:
    """Nine shifted products for a convolution, four for a pooling."""
    mean = np.array([123.68, 116.779, 103.939])
    x, y = (image[0].numpy().transpose(1, 2, 0) * 255 - mean for image in (pair.rendering, pair.target))
    total = np.abs(x - y).mean()
    weights = {2: 1 / 2.6, 4: 1 / 4.8, 6: 1 / 3.7, 10: 1 / 5.6, 14: 10 / 1.5}
    for i, (kernel, bias) in enumerate(convolutions, start=1):
        k = kernel.double().numpy()

        def convolved(image: np.ndarray, k: np.ndarray = k, bias: Tensor = bias) -> np.ndarray:
            h, w, _ = image.shape
            padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
            parts = (padded[r : r + h, c : c + w] @ k[:, :, r, c].T for r in range(3) for c in range(3))
            return np.maximum(sum(parts) + bias.double().numpy(), 0.0)

        x, y = convolved(x), convolved(y)
        total += weights.get(i, 0.0) * np.abs(x - y).mean()
        if i in (2, 4, 8, 12):
            x, y = (0.25 * (p[::2, ::2] + p[1::2, ::2] + p[::2, 1::2] + p[1::2, 1::2]) for p in (x, y))
    return float(total / 255)


def _random_pair(side: int) -> MaskedPair:
    generator = torch.Generator().manual_seed(2)
    x, y = (torch.rand(1, 3, side, side, dtype=torch.float64, generator=generator) for _ in range(2))
    return MaskedPair(x, y, torch.ones(1, 1, side, side, dtype=torch.float64))


def _convolutions() -> list[tuple[Tensor, Tensor]]:
    weights = random_weights(1)
    return list(zip(weights.kernels, weights.biases, strict=True))


def test_perceptual_is_what_numpy_says() -> None:
    pair, convolutions = _random_pair(16), _convolutions()
    truth = DEFINITIONS["perceptual"].truth(pair, convolutions)
    assert truth.value == pytest.approx(_vgg_by_numpy(pair, convolutions), rel=1e-10)
    assert truth.gradient_uncertainty < 0.01 * float(truth.gradient.norm())
    assert truth.value_uncertainty < 1e-5 * truth.value


def test_of_equal_images_nothing_is_known_of_the_perceptual_gradient() -> None:
    pair = _random_pair(16)
    truth = DEFINITIONS["perceptual"].truth(replace(pair, rendering=pair.target), _convolutions())
    assert truth.value == 0.0
    assert not truth.gradient.any()
    assert truth.gradient_uncertainty > 0.01


def test_perceptual_needs_the_subjects_convolutions() -> None:
    with pytest.raises(SubjectError, match="an attribute 'convolutions'"):
        DEFINITIONS["perceptual"].truth(_random_pair(16))


def _slope(value: Callable[[LossInputs], float], inputs: LossInputs, way: Tensor, step: float) -> float:
    first = inputs.tensors()[0]
    there, back = (value(inputs.with_first(first + sign * step * way)) for sign in (1, -1))
    return (there - back) / (2 * step)


@pytest.mark.parametrize("name", [name for name in DEFINITIONS if name != "ms-ssim"])
def test_the_gradient_is_the_values(name: str) -> None:
    definition = DEFINITIONS[name]
    generator = torch.Generator().manual_seed(4)
    inputs: LossInputs = _random_pair(16)
    # Similar images, so that the clamped loss is not at its clamp.
    inputs = inputs.with_first(0.7 * inputs.tensors()[1] + 0.2 * inputs.tensors()[0])
    if definition.on_points:
        # A map is one view, which has one camera: what is held fixed in the gradients then makes no difference.
        origin = torch.randn(1, 3, 1, 1, dtype=torch.float64, generator=generator).expand(1, 3, 16, 16)
        direction, aside = (torch.randn(1, 3, 16, 16, dtype=torch.float64, generator=generator) for _ in range(2))
        direction = direction / direction.norm(dim=1, keepdim=True)
        inputs = PointMap(origin + aside, origin, direction, inputs.mask)
    convolutions = _convolutions() if definition.needs_convolutions else None
    way = torch.randn(1, 3, 16, 16, dtype=torch.float64, generator=generator)
    if definition.name == "background":
        inputs = replace(inputs, mask=1.0 - inputs.mask)
    step = 1e-9 if definition.needs_convolutions else 1e-6
    slope = _slope(lambda changed: definition.truth(changed, convolutions).value, inputs, way, step)
    assert slope != 0.0
    gradient = definition.truth(inputs, convolutions).gradient
    assert float((gradient * way).sum()) == pytest.approx(slope, rel=1e-4)


def test_an_unknown_truth_is_named_with_its_neighbour() -> None:
    with pytest.raises(
        UsageError, match=r"no truth 'masked-sim'; did you mean 'masked-ssim'\? known are masked-ssim, "
    ):
        definition_named("masked-sim")


def test_every_definition_says_what_it_is() -> None:
    for name, definition in DEFINITIONS.items():
        assert definition.name == name
        assert definition.formula
        assert definition.upper > 0
