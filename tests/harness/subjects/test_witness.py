"""What a loss is found to be from its own float64, and how it may be called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.cases.descriptors import LossCase, Mask, MaskKind, Perturbation, PerturbationKind, Picture, PictureKind
from harness.cases.loss_inputs import MaskedPair
from harness.errors import SubjectError, UsageError
from harness.oracle.definitions import POOLED
from harness.oracle.form_fitting import fitting
from harness.oracle.levels import Level
from harness.oracle.masked_ssim import C1, C2
from harness.oracle.probe_pairs import probe_pairs
from harness.oracle.ssim_forms import Constants, Padding, Shown, SsimForm
from harness.precision import precisions_named
from harness.properties import LOSS_PROPERTIES
from harness.subject_spec import AUTO_TRUTH, SubjectSpec
from harness.subjects.adapted_loss import AdaptedLoss
from harness.subjects.call_expression import parse_call
from harness.subjects.loss import load_loss
from harness.subjects.oddities import oddities
from tests.harness.judging import judged_loss

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
        (
            "times_mask",
            {},
            "0.2 − 0.2·SSIM + 0.8·L1, zero-padded 11×11 Gaussian windows, each window whose centre the mask hides",
        ),
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


_SHOWN = "1 − SSIM, zero-padded 11×11 Gaussian windows, averaged over the windows whose centre the mask shows"


@pytest.mark.parametrize(
    ("name", "found", "pooled"),
    [
        ("shown_windows", f"{_SHOWN}, over all images at once", True),
        ("shown_windows_by_image", _SHOWN, False),
        ("shown_l1", "L1 averaged over the pixels that the mask shows, over all images at once", True),
        ("shown_l1_by_image", "l1", False),
        ("one_at_a_time", "l1", False),
    ],
)
def test_what_is_averaged_over_a_batch_at_once_is_told_from_what_is_image_by_image(
    name: str, found: str, pooled: bool
) -> None:
    loss, probes = _held(name), probe_pairs()
    assert loss.definition.name == found
    assert (loss.definition.pooling == POOLED) == pooled
    if name == "one_at_a_time":
        return
    # A batch whose images show different numbers of pixels.
    batch = MaskedPair(*(tensor[[1, 3, 4]] for tensor in probes.tensors()))
    assert float(loss(*batch.tensors())) == pytest.approx(loss.definition.truth(batch).value, rel=1e-5)


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


@pytest.mark.parametrize("shown", [Shown.ALL, Shown.CENTRES, Shown.ALIKE])
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


@pytest.mark.parametrize(
    "form",
    [
        SsimForm(constants=Constants(255.0**2 * C1, 255.0**2 * C2, 255.0)),
        SsimForm(Padding.ZERO, shown=Shown.ALIKE, constants=Constants(C1, 0.03)),
        SsimForm(Padding.REFLECT, 3, gaussian=False, constants=Constants(C2, C1)),
        SsimForm(Padding.VALID, 7, shown=Shown.BLACK, constants=Constants(1e-6, 1e-6)),
        SsimForm(Padding.ZERO, 11, shown=Shown.GREY, sigma=2.0),
        SsimForm(Padding.VALID, 5, shown=Shown.CENTRES, sigma=1.1),
    ],
    ids=lambda form: form.words,
)
def test_other_constants_and_another_sigma_are_told(form: SsimForm) -> None:
    probes = probe_pairs()
    similarity, _, _ = form.parts(probes.tensors())  # type: ignore[arg-type]
    fit, _ = fitting(probes, (1.0 - similarity).tolist(), masked=True)
    assert fit is not None
    assert fit.combination.form == form
    assert (fit.combination.constant, fit.combination.similarity) == (1.0, -1.0)


def test_of_what_fits_loosely_the_best_is_taken() -> None:
    probes = probe_pairs()
    form = SsimForm(constants=Constants(C1, 0.03))
    similarity, _, _ = form.parts(probes.tensors())  # type: ignore[arg-type]
    # As far off as float32 may be, which (0.01, 0.03) is not much more.
    values = [(1.0 - one) * (1.0 + 4e-5 * (-1) ** i) for i, one in enumerate(similarity.tolist())]
    fit, _ = fitting(probes, values, masked=True, tolerance=5e-4)
    assert fit is not None
    assert fit.combination.form == form


@pytest.mark.parametrize("arguments", [{"data_range": 255.0}, {"win_sigma": 2.0}])
def test_an_argument_that_makes_another_ssim_is_found_out(arguments: dict[str, float]) -> None:
    held = _held("pytorch_msssim:SSIM", similarity=True, arguments=arguments).held_to
    named = {"data_range": "C1 = 6.503 and C2 = 58.52, those of a data range of 255", "win_sigma": "windows of σ 2"}
    (name,) = arguments
    assert held.another
    assert named[name] in held.definition.name
    assert ("give it a data range of 1" in held.sentence) == (name == "data_range")
    # Its errors shrink as its constants grow, but for that of any loss.
    assert held.definition.noise().value == pytest.approx(1e-6 if name == "data_range" else 5e-4)


def test_what_float32_does_to_the_loss_of_another_range_is_rounding() -> None:
    loss = _held("pytorch_msssim:SSIM", similarity=True, arguments={"data_range": 255.0})
    (float32,) = precisions_named(["float32"])
    (accuracy,) = (one for one in LOSS_PROPERTIES if one.name == "accuracy")
    change = Perturbation(PerturbationKind.OFFSET, 1e-3)
    case = LossCase(16, 16, picture=Picture(PictureKind.TEXTURE), mask=Mask(MaskKind.FULL), perturbation=change)
    verdict = judged_loss(loss, accuracy, float32, case)
    assert not verdict.holds
    assert verdict.level is Level.ROUNDING


def _pieces(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    return ((x - y) * (mask > 0.5)).square().flatten(1).mean(1)


@pytest.mark.parametrize(
    ("loss", "seen"),
    [
        (lambda x, y, m: _pieces(x, y, m).mean(), ()),
        (lambda x, y, m: _pieces(x[:, :2], y[:, :2], m).mean(), ("the third of the rendering's channels has no",)),
        (lambda x, y, m: _pieces(x[:, 1:2], y[:, 1:2], m).mean(), ("the first and the third of the rendering's",)),
        (lambda x, y, m: _pieces(x, 0.5 * y, m).mean(), ("equal images are no minimum: one pair has",)),
        (lambda x, y, m: _pieces(x, y, m).sum(), ("a batch of two has",)),
        (lambda x, y, m: _pieces(x, y, 1.0 - m).mean(), ("only what the mask hides has influence",)),
        (
            lambda x, y, m: _pieces(x, y, torch.ones_like(m)).mean(),
            ("what the mask hides of the rendering has influence", "the mask has no influence"),
        ),
        (lambda x, y, m: _pieces(x.detach(), y, m).mean(), ("the rendering has no influence",)),
        (lambda x, y, m: _pieces(x.detach(), y, m).mean() + 0.0 * x.sum(), ("the rendering has no influence",)),
    ],
    ids=["right", "two", "one", "half", "summed", "turned round", "no mask", "no graph", "no gradient"],
)
def test_what_an_unknown_loss_does_is_told(loss: Callable[..., Tensor], seen: tuple[str, ...]) -> None:
    told = oddities(loss, probe_pairs(), masked=True)
    assert len(told) == len(seen), told
    assert all(one.startswith(words) for one, words in zip(told, seen, strict=True))


def test_what_is_seen_of_it_stands_in_the_sentence() -> None:
    sentence = _held("one_channel").held_to.sentence
    assert "Seen of it: the second and the third of the rendering's channels have no influence. Name what" in sentence


def test_an_unknown_loss_that_raises_is_told_with_what_it_was_asked_for() -> None:
    sentence = _held("one_unheard_of").held_to.sentence
    assert "Seen of it: asked for a gradient, a mask that hides nothing or a batch of two, it raises" in sentence
    assert "RuntimeError: one image, please" in sentence


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
