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
from gslrm.model.gslrm import Reconstruction
from gslrm.model.utils_losses import MaskedSsimLoss, SsimLoss
from gslrm.training import loss_terms

_PSNR_FLOOR = 1e-8
_FOREGROUND_DIFFERENCE = 0.1


@dataclass(frozen=True)
class Losses:
    """What a pass costs.

    Attributes:
        total: Σ weight·term, float32, with the graph.
        terms: each computed term, unweighted, by name.
        statistics: psnr in dB, mask_iou in [0, 1], and min, max and mean of rendering and target; without graph.
    """

    total: Float[Tensor, ""]
    terms: Mapping[str, Tensor]
    statistics: Mapping[str, Tensor]

    def numbers(self) -> dict[str, float]:
        """All of it as plain numbers, for a log."""
        named = {"loss": self.total, **self.terms, **self.statistics}
        return {name: float(value.detach()) for name, value in named.items()}


class LossComputer(nn.Module):
    """Total = Σ weight·term, each term in float32 with autocast off; a term that weighs nothing is not computed.

    Args:
        config: weights, masks and warm-up.
        background: the background's colour, RGB in [0, 1].
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
        perceptual: nn.Module | None = None,
        lpips: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("background", torch.tensor(background), persistent=False)
        self.ssim = SsimLoss(check_values=False)
        self.masked_ssim = MaskedSsimLoss(config.ssim_neutral_value, config.ssim_variant, check_values=False)
        self.perceptual = perceptual or (_perceptual(config) if config.perceptual_loss_weight else None)
        self.lpips = lpips or (_lpips() if config.lpips_loss_weight else None)

    def weights(self, update: int) -> dict[str, float]:
        """Each term's weight after so many optimizer steps."""
        config, warming = self.config, update < self.config.l2_warmup_steps
        return {
            "l2": config.l2_loss_weight,
            "ssim": config.ssim_loss_weight,
            "perceptual": 0.0 if warming else config.perceptual_loss_weight,
            "lpips": 0.0 if warming else config.lpips_loss_weight,
            "pixelalign": config.pixelalign_loss_weight,
            "pointsdist": config.warmup_pointsdist_loss_weight if warming else config.pointsdist_loss_weight,
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
        if target.shape[2] not in (3, 4):
            raise ValueError(f"target has {target.shape[2]} channels; it needs 3, or 4 with the mask.")
        with torch.autocast(rendering.device.type, enabled=False):
            images = rendering.flatten(0, 1).float()
            if self.config.clamp_rendering:
                images = clamp(images, 0.0, 1.0)
            wanted = target.flatten(0, 1).float()
            mask = wanted[:, 3:] if wanted.shape[1] == 4 else None
            weights = {name: weight for name, weight in self.weights(update).items() if weight}
            terms = self._image_terms(weights, images, wanted[:, :3], mask)
            terms |= self._point_terms(weights, reconstruction, input_mask)
            total = torch.stack([weights[name] * term.float() for name, term in terms.items()]).sum()
            return Losses(total, terms, self._statistics(images.detach(), wanted[:, :3], mask))

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
            terms["background"] = loss_terms.background(images, self.background, _needed(mask, "background"))
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
        xyz, origin, direction = (part.float() for part in parts)
        if "pixelalign" in weights:
            shown = None
            if self.config.masked_pixelalign_loss:
                shown = _needed(mask, "pixelalign")
                if shown.shape != xyz[:, :, :1].shape:
                    raise ValueError(f"input_mask {tuple(shown.shape)} does not fit points {tuple(xyz.shape)}.")
                shown = shown.flatten(0, 1)
            folded = [part.flatten(0, 1) for part in (xyz, origin, direction)]
            terms["pixelalign"] = loss_terms.pixel_alignment(folded[0], folded[1], folded[2], shown)
        if "pointsdist" in weights:
            terms["pointsdist"] = loss_terms.points_distance(xyz, origin)
        return terms

    @torch.no_grad()
    def _statistics(self, images: Tensor, target: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        masked = self.config.masked_l2_loss and mask is not None
        error = (
            loss_terms.masked_l2(images, target, mask) if masked and mask is not None else loss_terms.l2(images, target)
        )
        found = {"psnr": -10.0 * torch.log10(error.clamp(min=_PSNR_FLOOR))}
        if mask is not None:
            drawn = (images - self.background.view(1, 3, 1, 1)).abs().mean(1, keepdim=True) > _FOREGROUND_DIFFERENCE
            shown = mask > 0.5
            union = (drawn | shown).sum().clamp(min=1)
            found["mask_iou"] = (drawn & shown).sum() / union
        for name, image in (("rendering", images), ("target", target)):
            found |= {f"{name}_min": image.min(), f"{name}_max": image.max(), f"{name}_mean": image.mean()}
        return found


def _check_floating(tensor: Tensor, name: str) -> None:
    if not tensor.is_floating_point():
        raise TypeError(f"{name} has dtype {tensor.dtype}, but must be floating point; bytes are images once over 255.")


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
