"""How bright and flat pictures are, and what that lets rounding do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.cases.descriptors import LossCase, Mask, MaskKind, Perturbation, PerturbationKind, Picture, PictureKind
from harness.config import settings_for
from harness.engine.session import Session
from harness.oracle.flatness import flatness
from harness.oracle.levels import Level, noise
from harness.precision import precisions_named
from harness.properties.loss_property import LossProperty
from harness.properties.loss_value import accuracy, gradient_accuracy, identity, range_
from harness.subject_spec import AUTO_TRUTH, SubjectKind, SubjectSpec
from harness.trials.loss_trial import LossTrial

_TEXTBOOKS = Path(__file__).parents[1] / "subjects" / "float32_textbooks.py"


def _grey(level: float) -> Tensor:
    return torch.full((1, 3, 20, 30), level, dtype=torch.float64)


def _beside_itself(image: Tensor, window: int, uniform: bool = False) -> float:
    """Of a picture and one that is next to it, but nowhere the same."""
    return flatness(image, image * (1.0 - 1e-9) - 1e-12, window, uniform)


def test_flat_pictures_are_as_flat_as_they_are_bright() -> None:
    assert _beside_itself(_grey(1.0), 11) == pytest.approx(1.0)
    assert flatness(_grey(0.5), _grey(0.25), 11) == pytest.approx(0.25)
    assert _beside_itself(_grey(0.0), 11) == pytest.approx(0.0)


def test_windows_without_a_difference_count_where_they_are_asked_for() -> None:
    grey, beside, everywhere = _grey(0.5), _grey(0.5), torch.ones(1, 1, 20, 30, dtype=torch.bool)
    beside[..., :3, :3] += 0.1
    assert flatness(grey, grey, 11) == 0.0
    assert flatness(grey, grey, 11, seen=everywhere) == pytest.approx(0.25)
    assert 0.0 < flatness(grey, beside, 11) < 0.05 < flatness(grey, beside, 11, seen=everywhere)
    one = torch.zeros_like(everywhere)
    one[..., 0, 0] = True
    assert flatness(grey, grey, 11, seen=one) == pytest.approx(0.25 / (10 * 20))


def test_detail_takes_it_away_and_windows_see_only_so_far() -> None:
    noisy = torch.rand(1, 3, 20, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert _beside_itself(noisy, 11) < 0.01
    # A ramp is flat to who sees three pixels of it.
    ramp = torch.linspace(0.5, 1.0, 30, dtype=torch.float64).expand(1, 3, 20, 30)
    seen = {side: _beside_itself(ramp, side, uniform=True) for side in (3, 11)}
    assert seen[3] > 0.4 > 3 * seen[11]


def test_pictures_smaller_than_a_window_and_nan() -> None:
    assert _beside_itself(_grey(1.0)[..., :4, :5], 11) == pytest.approx(1.0)
    assert flatness(_grey(float("nan")), _grey(1.0), 11) == 0.0


def test_it_widens_what_is_rounding_only_where_much_is_flat() -> None:
    assert noise(True, 1.0, 0.2).value == noise(True).value
    assert noise(True, 1.0, 1.0).value == pytest.approx(5 * noise(True).value)
    assert noise(True, 1.0, 1.0).gradient == noise(True).gradient
    assert noise(True).at(1e-4).gradient > noise(True).at(1e-2).gradient == noise(True).gradient
    assert noise(False, 1.0, 1.0) == noise(False)


def test_the_longer_the_sums_of_a_window_the_more_they_round() -> None:
    assert noise(True, 1.0, 1.0, 121).value == pytest.approx(121 * 2.0**-24 / 0.03**2)
    assert noise(True, 1.0, 1.0, 9) == noise(True, 1.0, 1.0)
    assert noise(True, 1.0, 1.0, 121).gradient == noise(True).gradient
    longer = noise(True, 1.0, 0.0, 121, uniform=True)
    assert longer.value == noise(True).value
    assert longer.gradient / noise(True).gradient == pytest.approx(longer.element / noise(True).element)
    assert longer.gradient > 3 * noise(True).gradient


def test_windows_without_a_difference_count_for_nothing() -> None:
    assert flatness(_grey(1.0), _grey(1.0), 11) == 0.0
    other = _grey(1.0)
    other[..., 0, 0] = 1.0 - 1e-9
    assert flatness(_grey(1.0), other, 11) == pytest.approx(1 / (10 * 20))


def test_a_gaussian_window_sees_little_of_what_lies_at_its_corner() -> None:
    window = _grey(1.0)[..., :11, :11].clone()
    window[..., 0, 0] = 0.0
    assert _beside_itself(window, 11) > 0.99
    assert _beside_itself(window, 11, uniform=True) < 0.1


def test_the_gradient_may_be_off_by_the_same_share_and_by_itself_where_the_loss_is_next_to_nothing() -> None:
    flat = noise(True, 1.0, 0.5, 121)
    many, absolute = 10**6, flat.gradient / 1e3
    assert flat.of_gradient(0.9 * (flat.value + absolute), many, length=1.0) is Level.ROUNDING
    assert flat.of_gradient(1.1 * (flat.value + absolute), many, length=1.0) is Level.FAULT
    assert flat.of_gradient(0.9 * absolute, many) is Level.ROUNDING
    assert flat.of_gradient(1.1 * absolute, many) is Level.FAULT
    nothing = flat.at(flat.value)
    assert nothing.of_gradient(1.0, many, 1.0) is Level.ROUNDING
    assert nothing.of_gradient(1.1, many, 1.0) is nothing.of_gradient(0.9, many) is Level.FAULT
    # What subtracts nothing has nothing to clamp.
    assert noise(False).at(0.0).of_gradient(0.9, many, 1.0) is Level.FAULT


@pytest.mark.parametrize(
    ("name", "property_", "case"),
    [
        # Off by 8e-4 on one processor: much is flat.
        (
            "uniform",
            accuracy,
            LossCase(
                11,
                11,
                picture=Picture(PictureKind.FLAT, 186),
                mask=Mask(MaskKind.DISC, 40),
                perturbation=Perturbation(PerturbationKind.ANTICORRELATED, 1.78e-5),
            ),
        ),
        # Off by 4e-3: sums of 121 numbers.
        (
            "wide",
            accuracy,
            LossCase(
                16,
                16,
                picture=Picture(PictureKind.FLAT, 254),
                perturbation=Perturbation(PerturbationKind.OFFSET, 6e-4),
            ),
        ),
        # The same, in a Gaussian window: 121 terms, taken one after the other.
        (
            "tap_by_tap",
            range_,
            LossCase(
                12,
                12,
                seed=2886,
                picture=Picture(PictureKind.FLAT, 210),
                mask=Mask(MaskKind.BORDER, 142),
                perturbation=Perturbation(PerturbationKind.OFFSET, 4.22e-5),
            ),
        ),
        # Denominators are off by a share of themselves, and with them the gradient, however long it is.
        (
            "gaussian",
            gradient_accuracy,
            LossCase(
                12,
                11,
                seed=7204,
                picture=Picture(PictureKind.FLAT, 213),
                mask=Mask(MaskKind.BORDER, 240),
                perturbation=Perturbation(PerturbationKind.NOISE, 0.01),
            ),
        ),
        # Windows that rounding takes below 0 are clamped, and lose their gradient: half of it.
        (
            "pooled",
            gradient_accuracy,
            LossCase(
                11,
                11,
                picture=Picture(PictureKind.SMOOTH),
                mask=Mask(MaskKind.LINE, 47),
                perturbation=Perturbation(PerturbationKind.OFFSET, 2.37e-4),
            ),
        ),
        # Variances below 0 are clamped, and the covariance beside them isn't: 2e-3, of equal pixels too.
        ("clamped", identity, LossCase(11, 11, seed=2694, picture=Picture(PictureKind.FLAT, 252))),
        (
            "clamped",
            accuracy,
            LossCase(
                40,
                19,
                seed=95,
                picture=Picture(PictureKind.FLAT, 240),
                mask=Mask(MaskKind.LINE, 61),
                perturbation=Perturbation(PerturbationKind.SHIFT, 2.37e-4),
            ),
        ),
    ],
)
def test_what_float32_does_to_the_textbook_is_no_fault(name: str, property_: LossProperty, case: LossCase) -> None:
    spec = SubjectSpec(f"{_TEXTBOOKS}:{name}", truth=AUTO_TRUTH)
    subject = Session(settings_for(SubjectKind.LOSS, spec)).subject(SubjectKind.LOSS)
    verdict = property_.check(LossTrial(subject, precisions_named(["float32"])[0], case))
    assert verdict.holds or verdict.level is Level.ROUNDING, verdict
