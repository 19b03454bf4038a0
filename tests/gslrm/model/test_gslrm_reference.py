"""The whole model against a second writing of it, in float64 and by plain loops over patches and heads."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gslrm.config import load_config
from gslrm.data import ViewBatch, stack_views, synthetic_scene
from gslrm.model.gslrm import GSLRM

PATCH, HEAD = 4, 32


def norm(x: Tensor, weight: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight


def block(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    q, k, v = (norm(x, w[f"{name}.norm1.weight"]) @ w[f"{name}.attn.to_qkv.weight"].T).chunk(3, dim=-1)
    heads = []
    for first in range(0, x.shape[-1], HEAD):
        part = slice(first, first + HEAD)
        heads.append((q[:, part] @ k[:, part].T / HEAD**0.5).softmax(-1) @ v[:, part])
    x = x + torch.cat(heads, -1) @ w[f"{name}.attn.fc.weight"].T
    inner = norm(x, w[f"{name}.norm2.weight"]) @ w[f"{name}.mlp.mlp.0.weight"].T
    inner = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
    return x + inner @ w[f"{name}.mlp.mlp.2.weight"].T


def rays(c2w: Tensor, intrinsics: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Origin and direction of each pixel, (size, size, 3)."""
    fx, fy, cx, cy = intrinsics.tolist()
    direction = torch.empty(size, size, 3, dtype=torch.float64)
    for row in range(size):
        for column in range(size):
            towards = torch.tensor([(column + 0.5 - cx) / fx, (row + 0.5 - cy) / fy, 1.0], dtype=torch.float64)
            direction[row, column] = c2w[:3, :3] @ towards
    return c2w[:3, 3].expand_as(direction), direction / direction.square().sum(-1, keepdim=True).sqrt()


def raw_gaussians(model: GSLRM, batch: ViewBatch, plucker: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Raw numbers of the learned and of the pixels' Gaussians, and where the pixels' ones are, unclamped; of one scene,
    by view, patch row, patch column, row and column."""
    w = {name: value.double() for name, value in model.state_dict().items()}
    tokens, depths = [*w["gaussian_position_embeddings"]], []
    for view, picture in enumerate(batch.images[0, :, :3].double()):
        o, d = rays(batch.c2w[0, view].double(), batch.intrinsics[0, view].double(), picture.shape[-1])
        rgb, o_d = picture.permute(1, 2, 0), (o * d).sum(-1, keepdim=True)
        channels = [2 * rgb - 1, d, o - o_d * d] if plucker else [2 * rgb - 1, torch.linalg.cross(o, d), d]
        posed = torch.cat(channels, -1)
        for top in range(0, posed.shape[0], PATCH):
            for left in range(0, posed.shape[1], PATCH):
                patch = posed[top : top + PATCH, left : left + PATCH]
                tokens.append(w["patch_embedder.1.weight"] @ patch.reshape(-1))
        depths.append((o, d, o_d))
    x = norm(torch.stack(tokens), w["input_layer_norm.weight"])
    for i in range(len(model.transformer_layers)):
        x = block(x, w, f"transformer_layers.{i}")
    learned = norm(x[:2], w["gaussian_upsampler.layernorm.weight"]) @ w["gaussian_upsampler.linear.weight"].T
    decoded = norm(x[2:], w["pixel_gaussian_decoder.0.weight"]) @ w["pixel_gaussian_decoder.1.weight"].T
    side = batch.images.shape[-1]
    pixels, placed = [], []
    patches = iter(decoded)
    for o, d, o_d in depths:
        for top in range(0, side, PATCH):
            for left in range(0, side, PATCH):
                patch = next(patches).view(PATCH, PATCH, 14)
                for row in range(PATCH):
                    for column in range(PATCH):
                        raw, at = patch[row, column], (top + row, left + column)
                        s = raw[:3].mean().sigmoid()
                        t = (2 * s - 1) * 1.8 - o_d[at] if plucker else (2 * s - 1) * 1.5 + 2.7
                        pixels.append(raw)
                        placed.append(o[at] + t * d[at])
    return learned, torch.stack(pixels), torch.stack(placed)


@pytest.mark.parametrize("plucker", [True, False])
def test_the_model_is_its_description(plucker: bool) -> None:
    tiny = load_config("tiny").model
    model = GSLRM(replace(tiny, use_custom_plucker=plucker), seed=3).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():  # norms' weights too: a model with all of them 1 hides their order
            drawn = torch.empty(parameter.shape).normal_(std=0.2, generator=generator)
            parameter.copy_(drawn if parameter.dim() > 1 else 1 + drawn)
    batch = stack_views([synthetic_scene(2, 16)])
    out = model(batch.images[:, :, :3].double(), batch.c2w.double(), batch.intrinsics.double())
    learned, pixels, placed = raw_gaussians(model, batch, plucker)
    raw = torch.cat([learned, pixels])
    xyz = torch.cat([learned[:, :3], placed.clamp(-1, 1)])
    close = {"atol": 1e-9, "rtol": 1e-9}
    torch.testing.assert_close(out.gaussians.xyz[0], xyz, **close)
    torch.testing.assert_close(out.gaussians.colour[0], (0.5 + 0.28209479 * raw[:, 3:6]).clamp(min=0), **close)
    torch.testing.assert_close(out.gaussians.scale[0], (raw[:, 6:9] - 2.3).clamp(max=-1.2).exp(), **close)
    unit = raw[:, 9:13] / raw[:, 9:13].norm(dim=-1, keepdim=True)
    torch.testing.assert_close(out.gaussians.quaternion[0], unit, **close)
    torch.testing.assert_close(out.gaussians.opacity[0], (raw[:, 13:] - 2).sigmoid(), **close)
