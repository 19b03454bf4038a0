"""What a loss is found to be from its own float64, and how it may be called."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.cases.loss_inputs import MaskedPair
from harness.errors import SubjectError, UsageError
from harness.oracle.probe_pairs import probe_pairs
from harness.oracle.ssim_forms import Padding, Shown, SsimForm, fitting
from harness.subject_spec import AUTO_TRUTH, SubjectSpec
from harness.subjects.adapted_loss import AdaptedLoss
from harness.subjects.call_expression import parse_call
from harness.subjects.loss import load_loss

_PUBLIC = str(Path(__file__).with_name("public_losses.py"))


def _held(name: str, **more: object) -> AdaptedLoss:
    spec = name if ":" in name else f"{_PUBLIC}:{name}"
    return load_loss(SubjectSpec(spec, truth=AUTO_TRUTH, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "more", "found"),
    [
        ("zero_padded", {"similarity": True}, "zero-padded-ssim"),
        ("splatting", {}, "0.2 − 0.2·SSIM + 0.8·L1, zero-padded 11×11 Gaussian windows"),
        ("on_black", {}, "1 − SSIM, valid 11×11 Gaussian windows, after black where the mask hides"),
        ("PooledHalf", {"reduce": "mean"}, "0.5 − 0.5·SSIM, reflect-padded 3×3 uniform windows"),
        ("PooledHalf", {"reduce": "mean", "scale": 2.0}, "1 − SSIM, reflect-padded 3×3 uniform windows"),
        ("NeedsWindow", {"arguments": {"window_size": 7}}, "0.5 − 0.5·SSIM, zero-padded 7×7 Gaussian windows"),
        ("similarity_map", {"call": "f(x, y, 5)", "similarity": True}, "1 − SSIM, zero-padded 5×5 Gaussian windows"),
        (
            "similarity_map",
            {"call": "f(y=y, x=x, size=5, reduction='none')", "reduce": "mean", "similarity": True},
            "1 − SSIM, zero-padded 5×5 Gaussian windows",
        ),
        ("harness.subjects.known_bad.losses:LossWithClamp", {}, "clamped"),
    ],
)
def test_another_definition_is_named(name: str, more: dict[str, object], found: str) -> None:
    held = _held(name, **more).held_to
    assert held.another
    assert held.definition.name.startswith(found)
    assert "In float64 this is another loss than masked-ssim: " in held.sentence


@pytest.mark.parametrize(
    ("spec", "similarity"),
    [
        ("pytorch_msssim:ssim", True),
        ("pytorch_msssim:SSIM", True),
        ("harness.subjects.known_bad.losses:LossBeforeFix", False),
        ("gslrm.model.utils_losses:MaskedSsimLoss", False),
    ],
)
def test_what_is_expected_goes_without_saying(spec: str, similarity: bool) -> None:
    held = _held(spec, similarity=similarity).held_to
    assert (held.definition.name, held.sentence, held.another) == ("masked-ssim", "", False)


def test_a_similarity_is_told_to_be_one() -> None:
    held = _held("pytorch_msssim:ssim").held_to
    assert (held.definition.lower, held.definition.upper) == (-1.0, 1.0)
    assert held.sentence.endswith("say --similarity.")


def test_what_fits_nothing_is_held_to_its_own_float64() -> None:
    loss = _held("unheard_of")
    assert loss.definition.name == "its own float64"
    assert loss.definition.range_unknown
    assert "none of the losses that the harness knows" in loss.held_to.sentence
    assert "--truth" in loss.held_to.sentence
    pair = probe_pairs()
    truth = loss.definition.truth(pair)
    assert truth.value == pytest.approx(float(loss(*pair.tensors())), rel=1e-12)
    assert float(truth.gradient.norm()) > 0.0


def test_what_can_not_be_run_in_float64_is_held_to_what_was_expected() -> None:
    held = _held("only_float32").held_to
    assert (held.definition.name, held.another) == ("masked-ssim", False)
    assert "can't be run in float64 (TypeError: float32 only)" in held.sentence


def test_a_definition_that_is_named_binds() -> None:
    loss = load_loss(SubjectSpec(f"{_PUBLIC}:zero_padded", similarity=True, truth="masked-ssim"))
    assert (loss.definition.name, loss.held_to.another) == ("masked-ssim", False)


@pytest.mark.parametrize(
    ("name", "more", "says"),
    [
        ("PooledHalf", {}, "--reduce mean"),
        ("NeedsWindow", {}, "--argument window_size=VALUE"),
        ("as_a_dict", {}, "returned a dict"),
        ("similarity_map", {}, "--call"),
        ("gslrm.testing.single_terms:PixelAlignmentTerm", {}, "--truth"),
    ],
)
def test_a_misfit_is_told_what_to_do(name: str, more: dict[str, object], says: str) -> None:
    with pytest.raises(SubjectError, match=says):
        _held(name, **more)


@pytest.mark.parametrize(
    "call",
    ["", "g(x, y)", "f(x, y", "f(x, z)", "f(x, y, *mask)", "f(x, **y)", "f(x, y + 1)", "f(__import__('os'))", "f"],
)
def test_a_call_is_never_evaluated(call: str) -> None:
    with pytest.raises(UsageError, match="isn't of the form"):
        parse_call(call)


@pytest.mark.parametrize("shown", [Shown.ALL, Shown.CENTRES])
@pytest.mark.parametrize("padding", list(Padding))
@pytest.mark.parametrize(("size", "gaussian"), [(11, True), (7, False), (3, False)])
def test_a_form_is_told_from_every_other(shown: Shown, padding: Padding, size: int, gaussian: bool) -> None:
    probes = probe_pairs()
    form = SsimForm(padding, size, gaussian, shown)
    similarity, absolute, _ = form.parts(probes.tensors())  # type: ignore[arg-type]
    fit, _ = fitting(probes, (0.85 * (1.0 - similarity) / 2.0 + 0.15 * absolute).tolist(), masked=True)
    assert fit is not None
    assert fit.combination.form == form
    found = (fit.combination.constant, fit.combination.similarity, fit.combination.absolute, fit.combination.squared)
    assert found == pytest.approx((0.425, -0.425, 0.15, 0.0), abs=1e-9)


def test_the_truth_of_a_form_has_the_slope_that_it_says() -> None:
    probes = probe_pairs()
    pair = MaskedPair(*(tensor[:2] for tensor in probes.tensors()))
    loss = _held("on_black")
    truth, step = loss.definition.truth(pair), 1e-6
    way = (pair.rendering - 0.5) * (pair.mask > 0.5)
    moved = [loss.definition.truth(MaskedPair(pair.rendering + s * way, pair.target, pair.mask)) for s in (step, -step)]
    slope = (moved[0].value - moved[1].value) / (2.0 * step)
    assert slope == pytest.approx(float((truth.gradient * way).sum()), rel=1e-5)


def test_the_noise_of_a_sum_is_that_of_its_share_of_ssim() -> None:
    whole = _held("harness.subjects.known_bad.losses:LossBeforeFix").definition.noise().value
    assert _held("splatting").definition.noise().value == pytest.approx(0.2 * whole)


@pytest.mark.parametrize(
    "form", [SsimForm(), SsimForm(Padding.REFLECT, 3, gaussian=False), SsimForm(Padding.ZERO, 7)], ids=lambda f: f.words
)
def test_windows_in_which_images_are_alike_are_left_out(form: SsimForm) -> None:
    x = torch.rand(2, 3, 24, 31, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    y = x.clone()
    y[1, :, 8:12, 20:23] += 0.1
    masks = torch.ones(2, 1, 24, 31)

    def similarity(pixels: torch.Tensor, others: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = pixels.clone().requires_grad_()
        found = form.parts((pixels, others, masks))[0]
        return found.detach(), torch.autograd.grad(found.sum(), pixels)[0]

    found, gradient = similarity(x, y)
    # A difference in the corners has every window looked at.
    z = y.clone()
    z[..., 0, 0] += 1e-13
    z[..., -1, -1] += 1e-13
    whole, of_whole = similarity(x, z)
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-10)
    torch.testing.assert_close(gradient, of_whole, rtol=0, atol=1e-10)
    assert found[0] == 1.0
    assert not gradient[1, :, :, :5].any()
