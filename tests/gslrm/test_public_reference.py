"""Ours against the public implementation's own numbers: model, rays, Gaussians, and every setting of the loss."""

from __future__ import annotations

import math

import pytest
import pytorch_msssim
import torch
from torch import Tensor

from gslrm.config import GaussiansConfig, ImageTokenizerConfig, LossesConfig, ModelConfig, TransformerConfig
from gslrm.model.checkpoint import load_weights
from gslrm.model.gaussian_window import window_taps
from gslrm.model.gaussians import RAW
from gslrm.model.gslrm import GSLRM, Reconstruction
from gslrm.model.rays import Rays, camera_rays, posed_images
from gslrm.training.loss_computer import LossComputer, Losses
from tests.gslrm import public_reference
from tests.gslrm.public_reference import HEAD, LAYERS, LEARNED, PATCH, SIZE, VARIANTS, WIDTH, Reference

VALUES, GRADIENTS = 1e-6, 1e-5
LOSSES = tuple(public_reference.reduced().cases)
NAMES = {
    "loss": "loss",
    "l2_loss": "l2",
    "ssim_loss": "ssim",
    "background_loss": "background",
    "pixelalign_loss": "pixelalign",
    "pointsdist_loss": "pointsdist",
    "psnr": "psnr",
    "mask_iou": "mask_iou",
    "gt_min": "target_min",
    "gt_max": "target_max",
    "gt_mean": "target_mean",
    "pred_min": "rendering_min",
    "pred_max": "rendering_max",
    "pred_mean": "rendering_mean",
}
"""Names in the public log, and ours."""


@pytest.fixture(scope="module", params=["reduced", "whole"])
def reference(request: pytest.FixtureRequest) -> Reference:
    found = public_reference.reduced() if request.param == "reduced" else public_reference.whole()
    if found is None:
        pytest.skip("the whole reference is not beside this checkout (../shared/data/gslrm_reference)")
    return found


def close(ours: Tensor, theirs: Tensor, relative: float, what: str, *, each: bool = True) -> None:
    """As vectors; with `each` no number is further off than that share of the largest, either."""
    assert ours.shape == theirs.shape, what
    difference, theirs = ours.detach().double() - theirs.double(), theirs.double()
    assert float(difference.norm()) <= relative * float(theirs.norm()), what
    assert not each or float(difference.abs().max()) <= relative * float(theirs.abs().max()), what


def views(reference: Reference) -> tuple[Tensor, Tensor, Tensor]:
    images, c2w, intrinsics = (reference.model[f"inputs/{name}"].double() for name in ("images", "c2w", "intrinsics"))
    return images, c2w, intrinsics


def model(reference: Reference, variant: str) -> GSLRM:
    """The public weights in our model, by their public names."""
    tokenizer, shape = ImageTokenizerConfig(SIZE, PATCH), TransformerConfig(WIDTH, HEAD, LAYERS)
    built = GSLRM(ModelConfig(tokenizer, shape, GaussiansConfig(LEARNED), **VARIANTS[variant])).double()
    load_weights(built, reference.weights())
    return built


def raw_numbers(built: GSLRM, reference: Reference) -> tuple[Tensor, Reconstruction]:
    """What comes out of the two decoders, (1, n, 14), in the public order, and what the model makes of it."""
    decoded = []
    hooks = [
        decoder.register_forward_hook(lambda _module, _arguments, output: decoded.append(output))
        for decoder in (built.gaussian_upsampler, built.pixel_gaussian_decoder)
    ]
    made = built(*views(reference))
    for hook in hooks:
        hook.remove()
    return torch.cat([part.reshape(1, -1, RAW) for part in decoded], dim=1), made


def test_the_weights_that_are_drawn_are_the_references() -> None:
    reference = public_reference.reduced()
    for name, weight in reference.weights().items():
        close(reference.thinned("weights", weight), reference.model[f"weights/{name}"], 2e-7, name)


def test_rays(reference: Reference) -> None:
    _, c2w, intrinsics = views(reference)
    rays = camera_rays(c2w, intrinsics, SIZE, SIZE)
    for name, ours in (("origin", rays.origin), ("direction", rays.direction)):
        held = reference.model[f"rays/{name}"].flatten()
        close(reference.thinned("rays", ours), held, VALUES, name)


@pytest.mark.parametrize("variant", VARIANTS)
def test_posed_images(reference: Reference, variant: str) -> None:
    images, c2w, intrinsics = views(reference)
    rays = camera_rays(c2w, intrinsics, SIZE, SIZE)
    posed = posed_images(images, rays, VARIANTS[variant].get("use_custom_plucker", True))
    close(reference.thinned("posed", posed), reference.model[f"{variant}/posed"].flatten(), VALUES, "posed")


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_state_dict_of_the_public_names_gives_the_public_gaussians(reference: Reference, variant: str) -> None:
    raw, made = raw_numbers(model(reference, variant), reference)
    _, sh, log_scale, rotation, opacity = raw.split((3, 3, 3, 4, 1), dim=-1)
    public = {
        "xyz": made.gaussians.xyz,
        "features": sh,
        "scaling": (log_scale - 2.3).clamp(max=-1.2),
        "rotation": rotation,
        "opacity": opacity - 2,
    }
    held = {name: reference.model[f"{variant}/{name}"] for name in public}
    if reference.every["gaussians"] == 1:
        held = {name: numbers[0].flatten(1) for name, numbers in held.items()}
    for name, ours in public.items():
        close(reference.thinned_gaussians(ours), held[name].flatten(1), VALUES, name)
    # What ours makes of the raw numbers, against the public ones' activations.
    activated = {
        "colour": 0.5 + 0.28209479 * held["features"].flatten(1).double().clamp(min=-0.5 / 0.28209479),
        "scale": held["scaling"].double().exp(),
        "quaternion": held["rotation"].double() / held["rotation"].double().norm(dim=-1, keepdim=True),
        "opacity": held["opacity"].double().sigmoid(),
    }
    for name, theirs in activated.items():
        close(reference.thinned_gaussians(getattr(made.gaussians, name)), theirs, VALUES, name)


def test_clip_xyz_holds_what_is_on_rays_in_training_only() -> None:
    reference = public_reference.reduced()
    clipped, free = (reference.model[f"{variant}/xyz"] for variant in ("custom_plucker", "no_clip"))
    assert free[LEARNED:].abs().max() > 1
    assert clipped[:LEARNED].abs().max() > 1  # learned tokens are never clamped
    assert reference.model["no_align/xyz"][LEARNED:].abs().max() > 1  # nor is what is not put on rays
    built = model(reference, "custom_plucker")
    made = built.eval()(*views(reference)).gaussians.xyz
    close(reference.thinned_gaussians(made), free, VALUES, "in evaluation")
    made = built.train()(*views(reference), clip=False).gaussians.xyz
    close(reference.thinned_gaussians(made), free, VALUES, "while points are being placed")
    made = built.train()(*views(reference)).gaussians.xyz
    close(reference.thinned_gaussians(made), clipped, VALUES, "in training")


def computed(reference: Reference, case: str, dtype: torch.dtype) -> tuple[Losses, dict[str, Tensor]]:
    """Our loss of the reference's batch, and its gradients by rendering and xyz."""
    given = {name: tensor.to(dtype) for name, tensor in reference.loss_inputs().items()}
    rendering, xyz = given["rendering"].clone().requires_grad_(), given["xyz"].clone().requires_grad_()
    made = Reconstruction(None, xyz, Rays(given["ray_o"], given["ray_d"]))  # type: ignore[arg-type]
    settings = LossesConfig(**{"l2_loss_weight": 0.0, **reference.cases[case]["settings"]})
    losses = LossComputer(settings)(rendering, given["target"], made, input_mask=given["target"][:, :, 3:])
    gradients = torch.autograd.grad(losses.total, (rendering, xyz), allow_unused=True)
    return losses, {
        name: gradient for name, gradient in zip(("rendering", "xyz"), gradients, strict=True) if gradient is not None
    }


WINDOW = 1.2e-7
"""How far SSIM may be: its window is rounded to float32 in the public numbers, though the images are float64."""


@pytest.mark.parametrize("case", LOSSES)
def test_losses_and_what_is_logged(reference: Reference, case: str) -> None:
    losses, _ = computed(reference, case, torch.float64)
    ours, theirs = losses.numbers(), reference.cases[case]["all"]
    assert reference.cases[case]["loss"] == theirs["loss"]
    for public, name in NAMES.items():
        if name in (losses.terms.keys() | losses.statistics.keys()) - {"ssim"}:
            assert ours[name] == pytest.approx(theirs[public], rel=VALUES), name
        elif name in ("ssim", "loss") and "ssim" in losses.terms:
            assert abs(ours[name] - theirs[public]) <= VALUES * theirs[public] + WINDOW, name
        elif name == "loss":
            assert ours[name] == pytest.approx(theirs[public], rel=VALUES)
        else:
            # What weighs nothing is not computed; the public log has it as 0, and l2 as its least, 1e-8.
            assert theirs[public] <= 1.0000001e-8, name
    # The public log's norm_* are these terms over l2.
    for name in losses.terms.keys() - {"l2"}:
        share = theirs[f"{name}_loss"] / theirs["l2_loss"]
        assert theirs[f"norm_{name}_loss"] == pytest.approx(share, rel=VALUES)


@pytest.mark.parametrize("case", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gradients_of_losses(reference: Reference, case: str, dtype: torch.dtype) -> None:
    _, gradients = computed(reference, case, dtype)
    held = {name.rsplit("_", 1)[1]: t for name, t in reference.losses.items() if name.startswith(f"{case}/grad_")}
    assert set(held) <= set(gradients)
    for name, theirs in held.items():
        # In float32 a point near its ray has a gradient that is off by more than its share.
        close(
            *(reference.thinned("gradients", gradients[name]), theirs.flatten(), GRADIENTS, name),
            each=dtype == torch.float64,
        )
    for name in gradients.keys() - held.keys():
        assert not gradients[name].any(), name


@pytest.mark.parametrize("case", ["ssim", "masked_ssim"])
def test_ssim_differs_by_the_rounding_of_the_public_window_alone(case: str) -> None:
    reference = public_reference.reduced()
    target = reference.loss_inputs()["target"].flatten(0, 1)
    images = reference.loss_inputs()["rendering"].flatten(0, 1).clamp(0, 1), target[:, :3]
    if case == "masked_ssim":
        images = tuple(torch.where(target[:, 3:] > 0.5, image, 0.5) for image in images)
    exact = torch.tensor(window_taps(), dtype=torch.float64).expand(3, 1, 1, -1)
    theirs, ours = reference.cases[case]["loss"], float(computed(reference, case, torch.float64)[0].total.detach())
    assert 1 - float(pytorch_msssim.ssim(*images, data_range=1)) == pytest.approx(theirs, rel=1e-9)
    assert 1 - float(pytorch_msssim.ssim(*images, data_range=1, win=exact)) == pytest.approx(ours, rel=1e-9)
    assert abs(ours - theirs) < WINDOW


def test_psnr_of_an_l2_term_that_weighs_nothing_is_the_public_logs() -> None:
    losses, _ = computed(public_reference.reduced(), "ssim", torch.float64)
    assert float(losses.statistics["psnr"]) == pytest.approx(80.0, rel=1e-12)
    assert public_reference.reduced().cases["ssim"]["all"]["psnr"] == 80.0
    assert math.isfinite(losses.numbers()["loss"])
