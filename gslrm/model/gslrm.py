"""GS-LRM: from posed pictures to 3D Gaussians in one pass (Zhang et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gslrm.clamping import clamp
from gslrm.config import ModelConfig
from gslrm.model.gaussians import RAW, Gaussians, activate
from gslrm.model.rays import Rays, along, camera_rays, posed_images
from gslrm.model.tokenizer import Patchify, patch_embedder, unpatchify
from gslrm.model.transformer import Block, Linear, run_blocks

INIT_STD = 0.02
RADIUS = 1.8
"""With custom Plücker rays, a pixel's Gaussian is within this of its ray's point nearest the origin."""
DEPTH, DEPTH_RANGE = 2.7, 1.5
"""Otherwise, it is at this depth, give or take this range. All in world units."""


@dataclass(frozen=True)
class Reconstruction:
    """What the model makes of b scenes.

    gaussians: first those of the learned tokens, then one for each pixel, by view, patch row, patch column, and row
        and column in the patch.
    pixel_xyz: centres of the pixels' Gaussians, the same numbers as in `gaussians`, where the pixels are.
    rays: the pixels' rays.
    """

    gaussians: Gaussians
    pixel_xyz: Float[Tensor, "b v 3 h w"]
    rays: Rays


class GaussianUpsampler(nn.Module):
    """The decoder of the learned tokens: one Gaussian each."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.layernorm = nn.LayerNorm(d, bias=False)
        self.linear = Linear(d, RAW)

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n 14"]:
        return self.linear(self.layernorm(tokens))


class GSLRM(nn.Module):
    """The model. Names and shapes of its parameters are those of the public checkpoint.

    Weights are drawn from a normal distribution of standard deviation 0.02, by a generator of its own: the
    same `seed` gives the same weights on every device. Under `torch.device("meta")` nothing is drawn.

    grad_checkpoint_every: blocks whose activations are computed again together in the backward pass; 0 keeps
    all activations. Raises ValueError when it is negative.
    """

    def __init__(self, config: ModelConfig, *, seed: int = 0, grad_checkpoint_every: int = 0) -> None:
        super().__init__()
        if grad_checkpoint_every < 0:
            raise ValueError(f"grad_checkpoint_every is {grad_checkpoint_every}, expected 0 or more")
        self.config, self.grad_checkpoint_every = config, grad_checkpoint_every
        tokenizer, shape = config.image_tokenizer, config.transformer
        self.gaussian_position_embeddings = nn.Parameter(torch.empty(config.gaussians.n_gaussians, shape.d))
        if config.add_refsrc_marker:
            # Of the first view's tokens, and of the others'.
            self.view_type_embeddings = nn.Parameter(torch.empty(2, shape.d))
        self.patch_embedder = patch_embedder(tokenizer.patch_size, tokenizer.in_channels, shape.d)
        self.input_layer_norm = nn.LayerNorm(shape.d, bias=False)
        self.transformer_layers = nn.ModuleList(Block(shape.d, shape.d_head) for _ in range(shape.n_layer))
        self.gaussian_upsampler = GaussianUpsampler(shape.d)
        self.pixel_gaussian_decoder = nn.Sequential(
            nn.LayerNorm(shape.d, bias=False), Linear(shape.d, tokenizer.patch_size**2 * RAW)
        )
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int) -> None:
        """Draw all weights anew; LayerNorms' are 1."""
        generator = torch.Generator(device="cpu").manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.is_meta:
                    continue
                if parameter.dim() < 2:
                    parameter.fill_(1.0)
                    continue
                drawn = torch.empty(parameter.shape, dtype=torch.float32, device="cpu")
                parameter.copy_(drawn.normal_(std=INIT_STD, generator=generator))

    def forward(
        self,
        images: Float[Tensor, "b v 3 h w"],
        c2w: Float[Tensor, "b v 4 4"],
        intrinsics: Float[Tensor, "b v 4"],
        *,
        clip: bool = True,
    ) -> Reconstruction:
        """Gaussians of pictures in [0, 1] and their OpenCV cameras (fx, fy, cx, cy in pixels).

        The transformer follows the surrounding autocast; rays and Gaussians are float32 (float64 for a
        float64 model) whatever it says. clip: False leaves `clip_xyz` off for this call. Raises ValueError for shapes
        that do not fit.
        """
        settings, patch = self.config, self.config.image_tokenizer.patch_size
        _check(images, c2w, intrinsics, patch)
        b, v, _, h, w = images.shape
        rays = camera_rays(c2w, intrinsics, h, w)
        posed = posed_images(images, rays, settings.use_custom_plucker, settings.use_aug_plucker)
        tokens = self.patch_embedder(posed)
        if settings.add_refsrc_marker:
            kinds = torch.ones(v, dtype=torch.long, device=tokens.device)
            kinds[0] = 0
            marks = self.view_type_embeddings[kinds].repeat_interleave(tokens.shape[1] // v, dim=0)
            tokens = tokens + marks
        learned = self.gaussian_position_embeddings.expand(b, -1, -1)
        tokens = self.input_layer_norm(torch.cat([learned.to(tokens.dtype), tokens], dim=1))
        tokens = run_blocks(self.transformer_layers, tokens, self.grad_checkpoint_every)
        n = settings.gaussians.n_gaussians
        raw_learned = self.gaussian_upsampler(tokens[:, :n])
        # A token holds its patch's Gaussians by row and column: to part them is to order them.
        raw_pixels = self.pixel_gaussian_decoder(tokens[:, n:]).unflatten(-1, (-1, RAW)).flatten(1, 2)
        gaussians = activate(torch.cat([raw_learned, raw_pixels], dim=1))
        learned, pixels = gaussians.xyz.split([n, v * h * w], dim=1)
        pixel_xyz = unpatchify(pixels, patch, v, h, w).movedim(-1, 2)
        if settings.hard_pixelalign:
            pixel_xyz = self._on_rays(pixel_xyz, rays, clip)
            pixels = Patchify(patch)(pixel_xyz).reshape(pixels.shape)
        return Reconstruction(replace(gaussians, xyz=torch.cat([learned, pixels], dim=1)), pixel_xyz, rays)

    def _on_rays(self, raw: Float[Tensor, "b v 3 h w"], rays: Rays, clip: bool) -> Float[Tensor, "b v 3 h w"]:
        """Where the pixels' Gaussians are: on their rays, at a depth from the mean of the raw xyz."""
        unit = raw.mean(dim=2, keepdim=True).sigmoid() * 2 - 1
        if self.config.use_custom_plucker:
            t = unit * RADIUS - along(rays.origin, rays.direction)
        else:
            t = unit * DEPTH_RANGE + DEPTH
        on_rays = (rays.origin + t * rays.direction).to(raw.dtype)
        return clamp(on_rays, -1.0, 1.0) if clip and self.config.clip_xyz and self.training else on_rays


def _check(images: Tensor, c2w: Tensor, intrinsics: Tensor, patch_size: int) -> None:
    shape = tuple(images.shape)
    if len(shape) != 5 or shape[2] != 3:
        raise ValueError(f"images have shape {shape}, expected (b, v, 3, h, w): RGB without the mask")
    if shape[3] % patch_size or shape[4] % patch_size:
        raise ValueError(f"images are {shape[3]} × {shape[4]} px, expected multiples of the patch size, {patch_size}")
    for name, value, last in (("c2w", c2w, (4, 4)), ("intrinsics", intrinsics, (4,))):
        if tuple(value.shape) != (*shape[:2], *last):
            raise ValueError(f"{name} has shape {tuple(value.shape)}, expected {(*shape[:2], *last)}")
