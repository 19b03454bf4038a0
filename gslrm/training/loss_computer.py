"""All terms of GS-LRM's loss together, with their weights, warm-ups and logged statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gslrm.clamping import clamp
from gslrm.config import ConfigError, LossesConfig
from gslrm.data.images import background_rgb
from gslrm.model.gslrm import Reconstruction
from gslrm.model.tried_losses import masked_loss
from gslrm.model.utils_losses import SsimLoss
from gslrm.training import loss_terms

POINTS_WARMUP_STEPS = 1000
"""Optimizer steps at the start in which `warmup_pointsdist` draws points to a distance."""
POINTS_WARMUP_WEIGHT = 0.1
"""What that term weighs then."""
_PSNR_FLOOR = 1e-8


@dataclass(frozen=True)
class Losses:
    """What a pass costs.

    Attributes:
        total: Σ weight·term, float32 (float64 for a float64 rendering), with the graph.
        terms: each computed term, unweighted, by name.
        statistics: psnr of the l2 term in dB, 80 at most (and where that term weighs nothing: it then counts as 0),
            mask_iou in [0, 1], and min, max and mean of rendering and target; without graph.
    """

    total: Float[Tensor, ""]
    terms: Mapping[str, Tensor]
    statistics: Mapping[str, Tensor]

    def numbers(self) -> dict[str, float]:
        """All of it as plain numbers, for a log."""
        named = {"loss": self.total, **self.terms, **self.statistics}
        return {name: float(value.detach()) for name, value in named.items()}


class LossComputer(nn.Module):
    """Total = Σ weight·term, each with autocast off, in float32 (float64 where rendering or points are float64); a term
    that weighs nothing is not computed.

    The rendering is clamped to [0, 1] with a gradient of 1 at 0 and 1, whatever the version of torch.

    Args:
        config: weights, masks and what is warmed up.
        background: the data's background colour, RGB in [0, 1]; `config.background_color_target` goes before it.
        l2_warmup_steps: optimizer steps at the start without perceptual and LPIPS terms.
        perceptual, lpips: networks to use instead of the files that the configuration names.

    Raises:
        ConfigError: the perceptual term counts but no weights file is named.
    """

    background: Tensor

    def __init__(
        self,
        config: LossesConfig,
        background: tuple[float, float, float] = (1.0, 1.0, 1.0),
        *,
        l2_warmup_steps: int = 0,
        perceptual: nn.Module | None = None,
        lpips: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config, self.l2_warmup_steps = config, l2_warmup_steps
        colour = config.background_color_target
        if isinstance(colour, float):
            colour = (colour, colour, colour)
        background = background if colour is None else background_rgb(colour)
        self.register_buffer("background", torch.tensor(background, dtype=torch.float64), persistent=False)
        self.ssim = SsimLoss(check_values=False)
        self.masked_ssim = masked_loss(config.ssim_variant, config.ssim_neutral_value)
        self.perceptual = perceptual or (_perceptual(config) if config.perceptual_loss_weight else None)
        self.lpips = lpips or (_lpips() if config.lpips_loss_weight else None)

    def places_points(self, update: int) -> bool:
        """Whether, after so many optimizer steps, points are still being drawn to a distance: l2 and perceptual terms
        are off, and the model's `clip_xyz` is meant to be."""
        return self.config.warmup_pointsdist and update < POINTS_WARMUP_STEPS

    def weights(self, update: int) -> dict[str, float]:
        """Each term's weight after so many optimizer steps."""
        config, warming, placing = self.config, update < self.l2_warmup_steps, self.places_points(update)
        return {
            "l2": 0.0 if placing else config.l2_loss_weight,
            "ssim": config.ssim_loss_weight,
            "perceptual": 0.0 if warming or placing else config.perceptual_loss_weight,
            "lpips": 0.0 if warming else config.lpips_loss_weight,
            "pixelalign": config.pixelalign_loss_weight,
            "pointsdist": POINTS_WARMUP_WEIGHT if placing else config.pointsdist_loss_weight,
            "background": config.background_loss_weight,
        }

    def forward(
        self,
        rendering: Float[Tensor, "b v 3 h w"],
        target: Float[Tensor, "b v c h w"],
        reconstruction: Reconstruction | None = None,
        *,
        input_mask: Float[Tensor, "b u 1 h w"] | None = None,
        update: int = 0,
    ) -> Losses:
        """The loss of the rendered views.

        Args:
            target: RGB in [0, 1], or RGB and the mask as fourth channel.
            reconstruction: the model's output, for the terms on points.
            input_mask: the mask of the views that the model saw, for a masked pixel alignment.
            update: optimizer steps so far, for the warm-ups.

        Raises:
            TypeError: images or points that aren't floating point.
            ValueError: shapes that don't fit, a term that needs a mask or a reconstruction and has none.
        """
        _check_floating(rendering, "rendering")
        _check_floating(target, "target")
        if rendering.ndim != 5 or target.ndim != 5 or rendering.shape[2] != 3:
            raise ValueError(
                f"rendering {tuple(rendering.shape)} and target {tuple(target.shape)} must be (b, v, 3, height, width) "
                f"and (b, v, 3 or 4, height, width)."
            )
        if rendering.shape[:2] != target.shape[:2] or rendering.shape[-2:] != target.shape[-2:]:
            raise ValueError(f"rendering {tuple(rendering.shape)} and target {tuple(target.shape)} do not fit.")
        if rendering.numel() == 0:
            raise ValueError(f"rendering holds no pixel: its shape is {tuple(rendering.shape)}.")
        if target.shape[2] not in (3, 4):
            raise ValueError(f"target has {target.shape[2]} channels; it needs 3, or 4 with the mask.")
        with torch.autocast(rendering.device.type, enabled=False):
            images = _widened(rendering.flatten(0, 1))
            if self.config.clamp_rendering:
                images = clamp(images, 0.0, 1.0)
            wanted = target.flatten(0, 1).to(images.dtype)
            mask = wanted[:, 3:] if wanted.shape[1] == 4 else None
            weights = {name: weight for name, weight in self.weights(update).items() if weight}
            terms = self._image_terms(weights, images, wanted[:, :3], mask)
            terms |= self._point_terms(weights, reconstruction, input_mask)
            total = sum((weights[name] * term for name, term in terms.items()), start=images.new_zeros(()))
            return Losses(total, terms, self._statistics(terms.get("l2"), images.detach(), wanted[:, :3], mask))

    def _image_terms(
        self, weights: Mapping[str, float], images: Tensor, target: Tensor, mask: Tensor | None
    ) -> dict[str, Tensor]:
        config, terms = self.config, {}
        if "l2" in weights:
            masked = config.masked_l2_loss
            terms["l2"] = (
                loss_terms.masked_l2(images, target, _needed(mask, "l2")) if masked else loss_terms.l2(images, target)
            )
        if "ssim" in weights:
            masked = config.masked_ssim_loss
            terms["ssim"] = (
                self.masked_ssim(images, target, _needed(mask, "ssim")) if masked else self.ssim(images, target)
            )
        if "perceptual" in weights:
            assert self.perceptual is not None
            terms["perceptual"] = self.perceptual(images, target)
        if "lpips" in weights:
            assert self.lpips is not None
            terms["lpips"] = self.lpips(images, target)
        if "background" in weights:
            terms["background"] = loss_terms.background(
                images, self.background.to(images.dtype), _needed(mask, "background")
            )
        return terms

    def _point_terms(
        self, weights: Mapping[str, float], reconstruction: Reconstruction | None, mask: Tensor | None
    ) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        if not {"pixelalign", "pointsdist"} & set(weights):
            return terms
        if reconstruction is None:
            raise ValueError("the terms on points need the model's reconstruction.")
        _check_floating(reconstruction.pixel_xyz, "pixel_xyz")
        parts = (reconstruction.pixel_xyz, reconstruction.rays.origin, reconstruction.rays.direction)
        if any(part.shape != parts[0].shape for part in parts) or parts[0].ndim != 5 or parts[0].shape[2] != 3:
            shapes = ", ".join(str(tuple(part.shape)) for part in parts)
            raise ValueError(f"points, ray origins and directions are {shapes}; each must be (b, v, 3, height, width).")
        if parts[0].numel() == 0:
            raise ValueError(f"there are no points: their shape is {tuple(parts[0].shape)}.")
        xyz, origin, direction = (_widened(part.flatten(0, 1)) for part in parts)
        if "pixelalign" in weights:
            shown = None
            if self.config.masked_pixelalign_loss:
                shown = _needed(mask, "pixelalign")
                if shown.shape != parts[0][:, :, :1].shape:
                    raise ValueError(f"input_mask {tuple(shown.shape)} does not fit points {tuple(parts[0].shape)}.")
                if not (shown.is_floating_point() or shown.dtype == torch.bool):
                    raise TypeError(
                        f"input_mask has dtype {shown.dtype}; it weighs the points, so it must be boolean, or floating "
                        f"point from 0 to 1."
                    )
                shown = shown.flatten(0, 1)
            terms["pixelalign"] = loss_terms.pixel_alignment(xyz, origin, direction, shown)
        if "pointsdist" in weights:
            terms["pointsdist"] = loss_terms.points_distance(xyz, origin)
        return terms

    @torch.no_grad()
    def _statistics(self, l2: Tensor | None, images: Tensor, target: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        error = images.new_zeros(()) if l2 is None else l2.detach()
        found = {"psnr": -10.0 * torch.log10(error.clamp(min=_PSNR_FLOOR))}
        if mask is not None:
            difference = (images - self.background.to(images.dtype).view(1, 3, 1, 1)).abs().mean(1, keepdim=True)
            drawn = difference > self.config.mask_iou_threshold
            shown = mask > 0.5
            union = (drawn | shown).sum().clamp(min=1)
            found["mask_iou"] = (drawn & shown).sum() / union
        for name, image in (("rendering", images), ("target", target)):
            found |= {f"{name}_min": image.min(), f"{name}_max": image.max(), f"{name}_mean": image.mean()}
        return found


def _check_floating(tensor: Tensor, name: str) -> None:
    if not tensor.is_floating_point():
        raise TypeError(f"{name} has dtype {tensor.dtype}, but must be floating point; bytes are images once over 255.")


def _widened(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _needed(mask: Tensor | None, term: str) -> Tensor:
    if mask is None:
        raise ValueError(f"the {term} term needs a mask, but the target has three channels.")
    return mask


def _perceptual(config: LossesConfig) -> nn.Module:
    from gslrm.model.perceptual import PerceptualLoss
    from gslrm.model.vgg_weights import read_weights

    if config.perceptual_weights_file is None:
        raise ConfigError("perceptual_loss_weight is set, but perceptual_weights_file names no VGG19 weights")
    return PerceptualLoss(read_weights(Path(config.perceptual_weights_file)))


def _lpips() -> nn.Module:
    from gslrm.model.lpips_loss import LpipsLoss

    return LpipsLoss()
