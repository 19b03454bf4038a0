from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gslrm.config import ConfigError, LossesConfig, load_config
from gslrm.data.synthetic import synthetic_scene
from gslrm.data.views import ViewBatch, stack_views
from gslrm.model.gslrm import GSLRM, Reconstruction
from gslrm.model.rays import Rays
from gslrm.model.utils_losses import MaskedSsimLoss
from gslrm.training import loss_terms
from gslrm.training.loss_computer import LossComputer

EVERY = LossesConfig(
    l2_loss_weight=1.0,
    ssim_loss_weight=0.5,
    perceptual_loss_weight=0.5,
    lpips_loss_weight=0.25,
    pixelalign_loss_weight=0.1,
    pointsdist_loss_weight=0.1,
    background_loss_weight=0.3,
    masked_l2_loss=True,
    masked_ssim_loss=True,
    perceptual_weights_file="unused",
)
MASKED = LossesConfig(ssim_loss_weight=0.5, masked_l2_loss=True, masked_ssim_loss=True)


class _MeanDifference(nn.Module):
    """Stands in for a network."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y).abs().mean()


def _computer(config: LossesConfig = EVERY) -> LossComputer:
    return LossComputer(config, l2_warmup_steps=3, perceptual=_MeanDifference(), lpips=_MeanDifference())


@pytest.fixture(scope="module")
def scene() -> ViewBatch:
    return stack_views([synthetic_scene(4, 16).select([0, 1, 2])])


@pytest.fixture(scope="module")
def made(scene: ViewBatch) -> Reconstruction:
    model = GSLRM(load_config("tiny", {"model.image_tokenizer.image_size": 16}).model)
    return model(scene.images[:, :2, :3], scene.c2w[:, :2], scene.intrinsics[:, :2])


def _rendering(scene: ViewBatch) -> Tensor:
    return (scene.images[:, :, :3] * 0.9 + 0.02).requires_grad_()


def test_the_total_is_the_weighted_sum(scene: ViewBatch, made: Reconstruction) -> None:
    losses = _computer()(_rendering(scene), scene.images, made, input_mask=scene.images[:, :2, 3:], update=3)
    assert set(losses.terms) == {"l2", "ssim", "perceptual", "lpips", "pixelalign", "pointsdist", "background"}
    weights = _computer().weights(3)
    total = sum(weights[name] * float(term.detach()) for name, term in losses.terms.items())
    assert losses.total.item() == pytest.approx(total, rel=1e-6)
    assert losses.total.dtype == torch.float32


def test_each_image_term_is_its_own_function(scene: ViewBatch) -> None:
    config = replace(MASKED, background_loss_weight=1.0)
    rendering = _rendering(scene)
    terms = _computer(config)(rendering, scene.images).terms
    images, target, mask = rendering.flatten(0, 1), scene.images[0, :, :3], scene.images[0, :, 3:]
    for name, expected in (
        ("l2", loss_terms.masked_l2(images, target, mask)),
        ("ssim", MaskedSsimLoss()(images, target, mask)),
        ("background", loss_terms.background(images, torch.ones(3), mask)),
    ):
        torch.testing.assert_close(terms[name], expected)


def test_warm_up_silences_the_networks() -> None:
    warming, later = _computer().weights(2), _computer().weights(3)
    assert (warming["perceptual"], warming["lpips"], warming["pointsdist"]) == (0.0, 0.0, 0.1)
    assert (later["perceptual"], later["lpips"], later["pointsdist"]) == (0.5, 0.25, 0.1)
    assert not _computer().places_points(0)


def test_points_are_placed_in_the_first_thousand_steps() -> None:
    computer = _computer(replace(EVERY, warmup_pointsdist=True, pointsdist_loss_weight=0.02))
    placing, later = computer.weights(999), computer.weights(1000)
    assert computer.places_points(999)
    assert not computer.places_points(1000)
    assert (placing["l2"], placing["perceptual"], placing["pointsdist"]) == (0.0, 0.0, 0.1)
    assert (later["l2"], later["perceptual"], later["pointsdist"]) == (1.0, 0.5, 0.02)
    unmoved = ("ssim", "lpips", "pixelalign", "background")
    assert all(placing[name] == later[name] for name in unmoved)


def test_nothing_that_weighs_in_a_warm_up_is_a_loss_of_zero_without_a_graph(scene: ViewBatch) -> None:
    config = LossesConfig(l2_loss_weight=0.0, perceptual_loss_weight=1.0, perceptual_weights_file="unused")
    losses = _computer(config)(_rendering(scene), scene.images, update=0)
    assert losses.total.item() == 0.0
    assert not losses.total.requires_grad
    assert not losses.terms


@pytest.mark.parametrize(
    ("target", "colour"), [("gray", (0.5, 0.5, 0.5)), (0.25, (0.25, 0.25, 0.25)), ([0.0, 0.5, 1.0], (0.0, 0.5, 1.0))]
)
def test_the_backgrounds_target_may_be_another_colour(scene: ViewBatch, target: Any, colour: tuple[float, ...]) -> None:
    config = LossesConfig(l2_loss_weight=0.0, background_loss_weight=1.0, background_color_target=target)
    wanted = torch.tensor(colour).view(3, 1, 1)
    rendering = wanted.expand(1, 3, 3, 16, 16)
    losses = _computer(config)(rendering, scene.images)
    assert losses.total.item() == 0.0
    assert losses.statistics["mask_iou"] == 0.0  # nothing differs from it
    assert _computer(config)(rendering.flip(2) * 0.5, scene.images).total.item() > 0


def test_the_threshold_of_what_counts_as_drawn_is_set(scene: ViewBatch) -> None:
    rendering = torch.where(scene.images[:, :, 3:] > 0.5, 0.85, 1.0).expand(1, 3, 3, 16, 16)
    for threshold, iou in ((0.1, 1.0), (0.2, 0.0)):
        config = LossesConfig(mask_iou_threshold=threshold)
        assert _computer(config)(rendering, scene.images).statistics["mask_iou"] == iou


def test_float64_stays_float64(scene: ViewBatch, made: Reconstruction) -> None:
    images, points = LossComputer(MASKED), LossComputer(LossesConfig(l2_loss_weight=0.0, pointsdist_loss_weight=1.0))
    rendering, double = _rendering(scene), replace(made, pixel_xyz=made.pixel_xyz.double())
    assert images(rendering.double(), scene.images).total.dtype == torch.float64
    assert points(rendering, scene.images, double).total.dtype == torch.float64
    assert images(rendering.half(), scene.images).total.dtype == torch.float32
    assert points(rendering.half(), scene.images, made).total.dtype == torch.float32


def test_a_term_that_weighs_nothing_is_not_computed(scene: ViewBatch) -> None:
    class Refuses(nn.Module):
        def forward(self, *_: Tensor) -> Tensor:
            raise AssertionError

    terms = LossComputer(LossesConfig(), perceptual=Refuses())(_rendering(scene), scene.images).terms
    assert set(terms) == {"l2"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_around_it_changes_nothing(scene: ViewBatch, made: Reconstruction, dtype: torch.dtype) -> None:
    computer = LossComputer(replace(EVERY, perceptual_loss_weight=0.0, lpips_loss_weight=0.0))
    plain = computer(_rendering(scene), scene.images, made)
    with torch.autocast("cpu", dtype=dtype):
        inside = computer(_rendering(scene), scene.images, made)
    assert inside.numbers() == plain.numbers()


def test_statistics(scene: ViewBatch) -> None:
    rendering = scene.images[:, :, :3].clone()
    same = _computer(LossesConfig())(rendering, scene.images).numbers()
    assert same["psnr"] == pytest.approx(80.0)
    assert same["mask_iou"] > 0.7
    assert same["target_mean"] == pytest.approx(float(rendering.mean()), rel=1e-6)
    white = _computer(LossesConfig())(torch.ones_like(rendering), scene.images).numbers()
    assert white["mask_iou"] == 0.0
    assert white["rendering_min"] == white["rendering_max"] == 1.0
    assert white["psnr"] == pytest.approx(-10 * math.log10(white["l2"]), rel=1e-6)


def test_renderings_are_clamped_unless_told_not_to(scene: ViewBatch) -> None:
    beyond = scene.images[:, :, :3] + 2.0
    clamped = _computer(LossesConfig())(beyond, scene.images).total.item()
    free = _computer(LossesConfig(clamp_rendering=False))(beyond, scene.images).total.item()
    assert clamped < 1.0
    assert free == pytest.approx(4.0, rel=1e-5)


def test_nan_in_the_picture_is_nan_in_the_loss_and_no_exception(scene: ViewBatch) -> None:
    rendering = _rendering(scene).detach().clone()
    rendering[0, 0, :, 8, 8] = math.nan
    images = scene.images.clone()
    images[0, 0, 3, 8, 8] = 1.0
    assert math.isnan(_computer(MASKED)(rendering, images).total.item())


def test_what_is_missing_is_named(scene: ViewBatch, made: Reconstruction) -> None:
    with pytest.raises(ConfigError, match="perceptual_weights_file"):
        LossComputer(LossesConfig(perceptual_loss_weight=1.0))
    with pytest.raises(ValueError, match="needs a mask"):
        _computer(MASKED)(_rendering(scene), scene.images[:, :, :3])
    with pytest.raises(ValueError, match="reconstruction"):
        _computer()(_rendering(scene), scene.images)
    with pytest.raises(ValueError, match="do not fit"):
        _computer(LossesConfig())(_rendering(scene)[:, :2], scene.images)
    with pytest.raises(ValueError, match="5 channels"):
        _computer(LossesConfig())(_rendering(scene), torch.zeros(1, 3, 5, 16, 16))


def test_bytes_and_other_ranks_are_refused(scene: ViewBatch) -> None:
    rendering = _rendering(scene).detach()
    with pytest.raises(TypeError, match=r"rendering has dtype torch\.uint8"):
        _computer(LossesConfig())((rendering * 255).to(torch.uint8), scene.images)
    with pytest.raises(TypeError, match=r"target has dtype torch\.uint8"):
        _computer(LossesConfig())(rendering, (scene.images * 255).to(torch.uint8))
    with pytest.raises(ValueError, match=r"must be \(b, v, 3, height, width\)"):
        _computer(LossesConfig())(rendering[0], scene.images[0])
    with pytest.raises(ValueError, match=r"must be \(b, v, 3, height, width\)"):
        _computer(LossesConfig())(rendering[:, :, :1], scene.images)


def test_an_empty_batch_and_byte_weights_are_refused(scene: ViewBatch, made: Reconstruction) -> None:
    rendering, points = (
        _rendering(scene).detach(),
        LossesConfig(pixelalign_loss_weight=1.0, masked_pixelalign_loss=True),
    )
    with pytest.raises(ValueError, match="rendering holds no pixel"):
        _computer(LossesConfig())(rendering[:0], scene.images[:0])
    none = replace(made, pixel_xyz=made.pixel_xyz[:0], rays=Rays(made.rays.origin[:0], made.rays.direction[:0]))
    with pytest.raises(ValueError, match="there are no points"):
        _computer(points)(rendering, scene.images, none, input_mask=scene.images[:0, :2, 3:])
    mask = torch.ones_like(made.pixel_xyz[:, :, :1], dtype=torch.uint8)
    with pytest.raises(TypeError, match=r"input_mask has dtype torch\.uint8"):
        _computer(points)(rendering, scene.images, made, input_mask=mask)


def test_points_that_do_not_fit_their_rays_are_refused(scene: ViewBatch, made: Reconstruction) -> None:
    narrow = replace(made, rays=replace(made.rays, direction=made.rays.direction[..., :-1]))
    computer = _computer(LossesConfig(pixelalign_loss_weight=1.0, masked_pixelalign_loss=True))
    with pytest.raises(ValueError, match="points, ray origins and directions are"):
        computer(_rendering(scene), scene.images, narrow, input_mask=scene.images[:, :2, 3:])
    with pytest.raises(TypeError, match=r"pixel_xyz has dtype torch\.int32"):
        computer(_rendering(scene), scene.images, replace(made, pixel_xyz=made.pixel_xyz.to(torch.int32)))
    with pytest.raises(ValueError, match=r"input_mask .* does not fit"):
        computer(_rendering(scene), scene.images, made, input_mask=scene.images[:, :2, 3:, :, :-1])
