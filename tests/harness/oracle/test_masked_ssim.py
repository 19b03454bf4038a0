"""The oracle against three others: pytorch-msssim with a float64 window, scikit-image, and mpmath."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import mpmath
import numpy as np
import pytest
import pytorch_msssim
import torch
from hypothesis import given, settings
from skimage.metrics import structural_similarity
from torch import Tensor

from harness.cases.descriptors import LossCase, Mask, MaskKind, Perturbation, PerturbationKind, Picture, PictureKind
from harness.cases.strategies import DIFFERENT, loss_cases
from harness.cases.tensors import MaskedPair, build_pair
from harness.oracle import masked_ssim
from harness.oracle.loss_variants import foreground_truth
from harness.oracle.masked_ssim import C1, C2, _InBands, _window_terms, masked_ssim_truth, ssim_loss
from harness.oracle.padded_ssim import zero_padded_ssim_truth
from harness.oracle.squared_errors import ssim_truth
from harness.oracle.truth import Truth

_TAPS = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
_WINDOW = (_TAPS / _TAPS.sum()).expand(3, 1, 1, -1)


def _msssim(pair: MaskedPair) -> torch.Tensor:
    shown = pair.composited()
    x, y = shown.rendering.double().requires_grad_(), shown.target.double()
    return 1.0 - pytorch_msssim.ssim(x, y, data_range=1.0, win=_WINDOW), x


@settings(max_examples=60)
@given(loss_cases(perturbations=DIFFERENT))
def test_agrees_with_pytorch_msssim_in_float64(case: LossCase) -> None:
    pair = build_pair(case)
    truth = masked_ssim_truth(pair)
    value, x = _msssim(pair)
    (gradient,) = torch.autograd.grad(value, x)
    # The textbook form loses 1 − SSIM's digits below about 1e-10, in float64 too.
    assert truth.value == pytest.approx(value.item(), rel=1e-6, abs=1e-12)
    gradient = gradient * (pair.mask > 0.5)
    assert float((truth.gradient - gradient).norm()) <= 1e-6 * float(gradient.norm()) + 1e-12


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_scikit_image(seed: int) -> None:
    case = LossCase(
        24, 31, seed=seed, picture=Picture(PictureKind.TEXTURE), perturbation=Perturbation(PerturbationKind.NOISE, 0.1)
    )
    pair = build_pair(case)
    x, y = (image[0].double().numpy().transpose(1, 2, 0) for image in (pair.rendering, pair.target))
    _, similarity = structural_similarity(
        x,
        y,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=2,
        full=True,
    )
    # scikit-image pads; windows wholly inside are 5 pixels in.
    inside = np.asarray(similarity)[5:-5, 5:-5]
    assert masked_ssim_truth(pair).value == pytest.approx(1.0 - inside.mean(), rel=1e-10)


def _mpmath_loss(x: torch.Tensor, y: torch.Tensor) -> mpmath.mpf:
    """One 11×11 window of one channel, in the textbook form, with fifty digits."""
    weight = [mpmath.e ** (-mpmath.mpf((k - 5) ** 2) / mpmath.mpf("4.5")) for k in range(11)]
    total = mpmath.fsum(weight) ** 2
    moments = dict.fromkeys(("x", "y", "xx", "yy", "xy"), mpmath.mpf(0))
    for i, j in itertools.product(range(11), repeat=2):
        w, a, b = weight[i] * weight[j] / total, mpmath.mpf(x[i, j].item()), mpmath.mpf(y[i, j].item())
        for key, value in (("x", a), ("y", b), ("xx", a * a), ("yy", b * b), ("xy", a * b)):
            moments[key] += w * value
    mx, my = moments["x"], moments["y"]
    covariance = moments["xy"] - mx * my
    variances = moments["xx"] - mx**2 + moments["yy"] - my**2
    c1, c2 = mpmath.mpf("0.01") ** 2, mpmath.mpf("0.03") ** 2
    return 1 - (2 * mx * my + c1) / (mx**2 + my**2 + c1) * (2 * covariance + c2) / (variances + c2)


@pytest.mark.parametrize("magnitude", [1e-1, 1e-3, 1e-7])
@pytest.mark.parametrize("kind", [PerturbationKind.OFFSET, PerturbationKind.NOISE, PerturbationKind.PIXEL])
def test_agrees_with_fifty_digits_however_small(kind: PerturbationKind, magnitude: float) -> None:
    case = LossCase(
        11, 11, picture=Picture(PictureKind.SMOOTH), mask=Mask(), perturbation=Perturbation(kind, magnitude)
    )
    pair = build_pair(case)
    x, y = pair.rendering[:, :1].double(), pair.target[:, :1].double()
    with mpmath.workdps(50):
        expected = float(_mpmath_loss(x[0, 0], y[0, 0]))
    assert ssim_loss(x, y).item() == pytest.approx(expected, rel=1e-9)


def test_the_gradient_is_the_values() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(1, 2, 12, 11, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(ssim_loss, (x, y))


def test_the_constants_are_those_of_images_in_zero_to_one() -> None:
    assert (pytest.approx(1e-4), pytest.approx(9e-4)) == (C1, C2)


@pytest.mark.parametrize(("pixels", "kind"), [(1, MaskKind.PIXEL), (40, MaskKind.BORDER), (40, MaskKind.DISC)])
def test_windows_of_equal_pixels_may_be_left_out(pixels: int, kind: MaskKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of large pictures, of which small ones are taken here, with a difference in a corner of them; in bands and
    all at once."""
    patch, texture = Perturbation(PerturbationKind.PATCH), Picture(PictureKind.TEXTURE)
    pair = build_pair(LossCase(33, 41, seed=pixels, picture=texture, mask=Mask(kind, pixels), perturbation=patch))
    monkeypatch.setattr(masked_ssim, "_WORTH_CUTTING", 10**9)
    whole = masked_ssim_truth(pair), ssim_truth(pair)
    monkeypatch.undo()
    cut_out: list[int] = []

    def counted(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        found = _window_terms(x, y)
        cut_out.append(found[0].numel())
        return found

    monkeypatch.setattr(masked_ssim, "_window_terms", counted)
    # In bands each is cut out once for the value and once for the gradient.
    for at_once, times in ((100, 2), (10**6, 1)):
        monkeypatch.setattr(masked_ssim, "_WINDOWS_AT_ONCE", at_once)
        for truth, same in zip((masked_ssim_truth(pair), ssim_truth(pair)), whole, strict=True):
            assert truth.value == pytest.approx(same.value, rel=1e-13)
            torch.testing.assert_close(truth.gradient, same.gradient, rtol=1e-10, atol=1e-16)
        assert 0 < sum(cut_out) < 0.5 * times * 2 * 3 * (33 - 10) * (41 - 10)
        cut_out.clear()


@pytest.mark.parametrize("truth_of", [masked_ssim_truth, ssim_truth, zero_padded_ssim_truth, foreground_truth])
@pytest.mark.parametrize("kind", [PerturbationKind.NOISE, PerturbationKind.PATCH])
def test_the_gradient_of_large_pictures_waits_until_it_is_asked_for(
    truth_of: Callable[[MaskedPair], Truth], kind: PerturbationKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of which small ones are taken here, with differences everywhere or in a corner."""
    case = LossCase(33, 41, seed=3, picture=Picture(PictureKind.TEXTURE), perturbation=Perturbation(kind, 0.1))
    pair = build_pair(replace(case, mask=Mask(MaskKind.DISC, 500)))
    backward: list[int] = []
    stock = _InBands.backward
    monkeypatch.setattr(_InBands, "backward", staticmethod(lambda *args: (backward.append(1), stock(*args))[1]))
    at_once = truth_of(pair)
    assert not backward
    monkeypatch.setattr(masked_ssim, "_WORTH_CUTTING", 10)
    monkeypatch.setattr(masked_ssim, "_WINDOWS_AT_ONCE", 100)
    waiting = truth_of(pair)
    assert not backward
    assert waiting.value == pytest.approx(at_once.value, rel=1e-13)
    with torch.no_grad():
        torch.testing.assert_close(waiting.gradient, at_once.gradient, rtol=1e-10, atol=1e-16)
    assert waiting.gradient is waiting.gradient
    assert len(backward) == 1


def test_of_equal_images_one_window_stands_for_all() -> None:
    x = torch.rand(2, 3, 40, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = x.clone().requires_grad_()
    loss = ssim_loss(x, y)
    (gradient,) = torch.autograd.grad(loss, y)
    assert loss.item() == 0.0
    assert not gradient.any()
