"""The model: its parameters, its geometry, and its gradients under every precision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from gslrm.config import ModelConfig, load_config
from gslrm.data import ViewBatch, stack_views, synthetic_scene
from gslrm.model.gslrm import GSLRM, Reconstruction
from gslrm.model.rays import Rays
from gslrm.model.tokenizer import unpatchify
from gslrm.rendering import render_batch

TINY = load_config("tiny").model
LAYER = {
    "norm1.weight": (1024,),
    "norm2.weight": (1024,),
    "attn.to_qkv.weight": (3072, 1024),
    "attn.fc.weight": (1024, 1024),
    "mlp.mlp.0.weight": (4096, 1024),
    "mlp.mlp.2.weight": (1024, 4096),
}
PUBLIC = {
    "gaussian_position_embeddings": (2, 1024),
    "patch_embedder.1.weight": (1024, 576),
    "input_layer_norm.weight": (1024,),
    **{f"transformer_layers.{i}.{name}": shape for i in range(24) for name, shape in LAYER.items()},
    "gaussian_upsampler.layernorm.weight": (1024,),
    "gaussian_upsampler.linear.weight": (14, 1024),
    "pixel_gaussian_decoder.0.weight": (1024,),
    "pixel_gaussian_decoder.1.weight": (896, 1024),
}


@pytest.fixture(scope="module")
def batch() -> ViewBatch:
    return stack_views([synthetic_scene(3, 32, seed=seed) for seed in range(2)])


def run(model: GSLRM, batch: ViewBatch) -> Reconstruction:
    return model(batch.images[:, :, :3], batch.c2w, batch.intrinsics)


def with_settings(**settings: Any) -> ModelConfig:
    return replace(TINY, **settings)


def spread(model: GSLRM) -> GSLRM:
    """Weights large enough that activations leave the middle of their ranges."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter *= 10
    return model


def total(out: Reconstruction) -> torch.Tensor:
    """A number that depends on every output, unevenly."""
    fields = vars(out.gaussians).values()
    return torch.stack([(x * torch.linspace(0.5, 1.5, x[0, 0].numel())).square().mean() for x in fields]).sum()


def test_parameters_are_those_of_the_public_checkpoint() -> None:
    with torch.device("meta"):
        model = GSLRM(load_config("facelift").model)
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == PUBLIC
    assert {name for name, _ in model.named_parameters()} == set(PUBLIC)  # no buffers


def test_weights_come_from_the_seed_alone() -> None:
    before = torch.random.get_rng_state()
    first, second, other = GSLRM(TINY, seed=1), GSLRM(TINY, seed=1), GSLRM(TINY, seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    for a, b, c in zip(first.parameters(), second.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c) == (a.dim() == 1)
    drawn = torch.cat([p.detach().flatten() for p in first.parameters() if p.dim() > 1])
    assert abs(float(drawn.std()) - 0.02) < 2e-4
    assert abs(float(drawn.mean())) < 2e-4
    assert all((p == 1).all() for p in first.parameters() if p.dim() == 1)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_outputs_are_finite_float32_in_their_ranges(batch: ViewBatch, dtype: torch.dtype | None) -> None:
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        out = run(GSLRM(TINY), batch)
    n = 2 + 3 * 32 * 32
    shapes = {"xyz": 3, "colour": 3, "scale": 3, "quaternion": 4, "opacity": 1}
    for name, width in shapes.items():
        value = getattr(out.gaussians, name)
        assert value.shape == (2, n, width), name
        assert value.dtype == torch.float32, name
        assert torch.isfinite(value).all(), name
    assert out.pixel_xyz.abs().max() <= 1
    assert out.pixel_xyz.shape == out.rays.origin.shape == out.rays.direction.shape == (2, 3, 3, 32, 32)
    assert out.pixel_xyz.dtype == out.rays.direction.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_near_float32(batch: ViewBatch, dtype: torch.dtype) -> None:
    model = GSLRM(TINY)
    plain = run(model, batch)
    with torch.autocast("cpu", dtype=dtype):
        cast = run(model, batch)
    assert not torch.equal(plain.gaussians.opacity, cast.gaussians.opacity)  # it was cast at all
    for name in ("xyz", "colour", "scale", "opacity"):
        difference = getattr(plain.gaussians, name) - getattr(cast.gaussians, name)
        assert difference.abs().max() < 0.02, name


@pytest.mark.parametrize("every", [0, 1])
@pytest.mark.parametrize("amp", [False, True])
def test_gradient_reaches_every_parameter(batch: ViewBatch, every: int, amp: bool) -> None:
    model = GSLRM(with_settings(clip_xyz=False), grad_checkpoint_every=every)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
        total(run(model, batch)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        # Every learned token, and most of every weight's numbers.
        assert (parameter.grad != 0).float().mean() > 0.9, name


@pytest.mark.parametrize("amp", [False, True])
def test_checkpointing_changes_no_gradient(batch: ViewBatch, amp: bool) -> None:
    gradients = []
    for every in (0, 1, 2):
        model = GSLRM(TINY, grad_checkpoint_every=every)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
            total(run(model, batch)).backward()
        gradients.append([p.grad for p in model.parameters()])
    for a, b, c in zip(*gradients, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_blocks_are_recomputed_when_asked(batch: ViewBatch) -> None:
    for every, calls in ((0, 1), (1, 2)):
        model, seen = GSLRM(TINY, grad_checkpoint_every=every), []
        model.transformer_layers[0].register_forward_pre_hook(lambda *_, seen=seen: seen.append(1))
        total(run(model, batch)).backward()
        assert len(seen) == calls


def test_permuting_views_permutes_their_gaussians(batch: ViewBatch) -> None:
    model, order = spread(GSLRM(TINY)), [2, 0, 1]
    moved = ViewBatch(batch.images[:, order], batch.c2w[:, order], batch.intrinsics[:, order], batch.scenes)
    plain, permuted = run(model, batch), run(model, moved)
    for name in vars(plain.gaussians):
        a, b = getattr(plain.gaussians, name), getattr(permuted.gaussians, name)
        torch.testing.assert_close(a[:, :2], b[:, :2], atol=1e-4, rtol=1e-4)
        views = a[:, 2:].unflatten(1, (3, -1))[:, order].flatten(1, 2)
        torch.testing.assert_close(views, b[:, 2:], atol=1e-4, rtol=1e-4)
        assert not torch.allclose(a[:, 2:], b[:, 2:], atol=1e-3), name
    torch.testing.assert_close(plain.pixel_xyz[:, order], permuted.pixel_xyz, atol=1e-4, rtol=1e-4)


def test_scenes_of_a_batch_do_not_see_each_other(batch: ViewBatch) -> None:
    model = GSLRM(TINY)
    alone = model(batch.images[1:, :, :3], batch.c2w[1:], batch.intrinsics[1:])
    torch.testing.assert_close(alone.gaussians.colour[0], run(model, batch).gaussians.colour[1])


@pytest.mark.parametrize("plucker", [True, False])
def test_pixel_gaussians_lie_on_their_rays(batch: ViewBatch, plucker: bool) -> None:
    model = spread(GSLRM(with_settings(clip_xyz=False, use_custom_plucker=plucker)))
    out = run(model, batch)
    o, d, from_camera = out.rays.origin, out.rays.direction, out.pixel_xyz - out.rays.origin
    depth = (from_camera * d).sum(2, keepdim=True)
    torch.testing.assert_close(from_camera, depth * d, atol=1e-5, rtol=0)
    reach = depth + (o * d).sum(2, keepdim=True) if plucker else depth - 2.7
    bound = 1.8 if plucker else 1.5
    assert reach.abs().max() <= bound + 1e-5
    assert reach.std() > 0.05  # they are spread along their rays


@pytest.mark.parametrize("plucker", [True, False])
def test_depth_is_the_formula_of_the_raw_numbers(batch: ViewBatch, plucker: bool) -> None:
    bare = spread(GSLRM(with_settings(clip_xyz=False, use_custom_plucker=plucker, hard_pixelalign=False)))
    aligned = GSLRM(with_settings(clip_xyz=False, use_custom_plucker=plucker))
    aligned.load_state_dict(bare.state_dict())
    raw, out = run(bare, batch), run(aligned, batch)
    s = raw.pixel_xyz.mean(2, keepdim=True).sigmoid()
    o, d = out.rays.origin, out.rays.direction
    t = (2 * s - 1) * 1.8 - (o * d).sum(2, keepdim=True) if plucker else (2 * s - 1) * 1.5 + 2.7
    torch.testing.assert_close(out.pixel_xyz, o + t * d)
    assert torch.equal(raw.gaussians.xyz[:, :2], out.gaussians.xyz[:, :2])  # learned tokens are no pixels


def test_pixel_xyz_is_that_of_the_gaussians_and_is_clipped(batch: ViewBatch) -> None:
    for clip in (True, False):
        out = run(spread(GSLRM(with_settings(clip_xyz=clip))), batch)
        by_pixel = unpatchify(out.gaussians.xyz[:, 2:], 4, 3, 32, 32)
        assert torch.equal(by_pixel.permute(0, 1, 4, 2, 3), out.pixel_xyz)
        # By view, patch row, patch column, row and column in the patch.
        for view, row, column in ((0, 0, 0), (0, 1, 2), (1, 7, 30), (2, 31, 5)):
            patch = (view * 8 + row // 4) * 8 + column // 4
            place = 2 + patch * 16 + row % 4 * 4 + column % 4
            assert torch.equal(out.gaussians.xyz[:, place], out.pixel_xyz[:, view, :, row, column])
        assert (out.pixel_xyz.abs().max() <= 1) == clip


def test_a_pixel_gaussian_is_made_of_its_own_patch() -> None:
    # With tokens that do not attend to one another, a change in one patch moves its own pixels alone.
    model = spread(GSLRM(TINY))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("attn.fc.weight"):
                parameter.zero_()
    batch = stack_views([synthetic_scene(2, 32)])
    images = batch.images[:, :, :3].clone()
    plain = unpatchify(model(images, batch.c2w, batch.intrinsics).gaussians.colour[:, 2:], 4, 2, 32, 32)[0]
    images[0, 1, :, 8:12, 20:24] = 0.25
    changed = unpatchify(model(images, batch.c2w, batch.intrinsics).gaussians.colour[:, 2:], 4, 2, 32, 32)[0]
    moved = ((plain - changed).abs() > 1e-6).any(-1)
    assert moved[1, 8:12, 20:24].all()
    assert moved.sum() == 16


def test_what_it_makes_can_be_drawn(batch: ViewBatch) -> None:
    model = GSLRM(TINY)
    out = model(batch.images[:, :1, :3, :8, :8], batch.c2w[:, :1], batch.intrinsics[:, :1])
    image = render_batch(out.gaussians, batch.c2w, batch.intrinsics / 4, 8, 8).image
    assert image.shape == (2, 3, 3, 8, 8)
    assert image.min() < 0.9  # something is there
    image.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_marker_tells_the_first_view_from_the_others(batch: ViewBatch) -> None:
    marked = GSLRM(with_settings(add_refsrc_marker=True))
    assert tuple(marked.state_dict()["view_type_embeddings"].shape) == (2, 64)
    assert set(marked.state_dict()) == {*GSLRM(TINY).state_dict(), "view_type_embeddings"}
    tokens: list[torch.Tensor] = []
    marked.input_layer_norm.register_forward_pre_hook(lambda _module, given: tokens.append(given[0]))
    with torch.no_grad():
        marked.view_type_embeddings.zero_()
        run(marked, batch)
        marked.view_type_embeddings[0], marked.view_type_embeddings[1] = 1.0, 2.0
        run(marked, batch)
    added = tokens[1] - tokens[0]
    assert added[:, :2].abs().max() == 0  # the learned tokens, which go in front
    torch.testing.assert_close(added[:, 2:66], torch.ones(2, 64, 64))
    torch.testing.assert_close(added[:, 66:], torch.full((2, 128, 64), 2.0))


def test_the_markers_gradient_is_of_both(batch: ViewBatch) -> None:
    marked = GSLRM(with_settings(add_refsrc_marker=True))
    total(run(marked, batch)).backward()
    assert marked.view_type_embeddings.grad is not None
    assert (marked.view_type_embeddings.grad.abs().sum(1) > 0).all()


def test_twelve_channels_of_augmented_plucker_rays(batch: ViewBatch) -> None:
    tokenizer = replace(TINY.image_tokenizer, in_channels=12)
    model = GSLRM(with_settings(image_tokenizer=tokenizer, use_aug_plucker=True))
    assert tuple(model.state_dict()["patch_embedder.1.weight"].shape) == (64, 12 * 16)
    assert torch.isfinite(run(model, batch).gaussians.xyz).all()


def test_centres_are_clamped_in_training_only(batch: ViewBatch) -> None:
    model = spread(GSLRM(TINY))
    assert run(model, batch).pixel_xyz.abs().max() <= 1
    assert run(model.eval(), batch).pixel_xyz.abs().max() > 1
    model.train()
    free = model(batch.images[:, :, :3], batch.c2w, batch.intrinsics, clip=False)
    assert free.pixel_xyz.abs().max() > 1
    unaligned = spread(GSLRM(with_settings(hard_pixelalign=False)))
    assert run(unaligned, batch).pixel_xyz.abs().max() > 1


def test_a_centre_on_the_bound_keeps_its_gradient() -> None:
    # With raw xyz of 0 and without custom rays the depth is 2.7: from this camera z is then −1, to the bit.
    model = GSLRM(with_settings(use_custom_plucker=False)).double()
    raw = torch.zeros(1, 1, 3, 1, 1, dtype=torch.float64, requires_grad=True)
    origin, direction = (torch.tensor([0.0, 0.0, z], dtype=torch.float64) for z in (-1.0 - 2.7, 1.0))
    at = Rays(origin.view(1, 1, 3, 1, 1), direction.view(1, 1, 3, 1, 1))
    placed = model._on_rays(raw, at, clip=True)
    assert float(placed.detach()[0, 0, 2, 0, 0]) == -1.0
    (gradient,) = torch.autograd.grad(placed[0, 0, 2].sum(), raw)
    assert gradient.abs().min() > 0


def test_no_learned_tokens_is_possible(batch: ViewBatch) -> None:
    out = run(GSLRM(with_settings(gaussians=replace(TINY.gaussians, n_gaussians=0))), batch)
    assert out.gaussians.xyz.shape == (2, 3 * 32 * 32, 3)


def test_pictures_of_other_sizes_are_welcome_when_patches_fit(batch: ViewBatch) -> None:
    model = GSLRM(TINY)
    out = model(batch.images[:, :, :3, :16, :24], batch.c2w, batch.intrinsics)
    assert out.pixel_xyz.shape == (2, 3, 3, 16, 24)
    with pytest.raises(ValueError, match="16 × 30 px, expected multiples of the patch size, 4"):
        model(batch.images[:, :, :3, :16, :30], batch.c2w, batch.intrinsics)


def test_shapes_that_do_not_fit_are_named(batch: ViewBatch) -> None:
    model, rgb = GSLRM(TINY), batch.images[:, :, :3]
    with pytest.raises(ValueError, match=r"images have shape .* without the mask"):
        model(batch.images, batch.c2w, batch.intrinsics)
    with pytest.raises(ValueError, match=r"c2w has shape \(2, 2, 4, 4\), expected \(2, 3, 4, 4\)"):
        model(rgb, batch.c2w[:, :2], batch.intrinsics)
    with pytest.raises(ValueError, match=r"intrinsics has shape \(2, 3, 3\)"):
        model(rgb, batch.c2w, batch.intrinsics[..., :3])
    with pytest.raises(ValueError, match="grad_checkpoint_every is -1"):
        GSLRM(TINY, grad_checkpoint_every=-1)


def test_the_same_input_gives_the_same_bits(batch: ViewBatch) -> None:
    model = GSLRM(TINY)
    assert torch.equal(run(model, batch).gaussians.colour, run(model, batch).gaussians.colour)


def test_float64_goes_through(batch: ViewBatch) -> None:
    model = GSLRM(TINY).double()
    out = model(batch.images[:, :, :3].double(), batch.c2w.double(), batch.intrinsics.double())
    assert all(x.dtype == torch.float64 for x in vars(out.gaussians).values())
    single = run(GSLRM(TINY), batch)
    torch.testing.assert_close(out.gaussians.colour.float(), single.gaussians.colour, atol=1e-5, rtol=0)
