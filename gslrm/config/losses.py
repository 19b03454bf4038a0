"""Settings of the loss, under `training.losses:` in the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from gslrm.config.data import ColourName
from gslrm.config.sections import LEFT_ALONE, NOT_NEGATIVE, UNIT, Checked, ConfigError, setting

SsimVariant = Literal["stable", "clamp", "foreground", "ms_ssim", "l1", "l2"]
_WEIGHTS = (
    "l2_loss_weight",
    "ssim_loss_weight",
    "perceptual_loss_weight",
    "lpips_loss_weight",
    "pixelalign_loss_weight",
    "pointsdist_loss_weight",
    "background_loss_weight",
)


@dataclass(frozen=True)
class LossesConfig(Checked):
    """The terms of the loss, each with its weight.

    masked_l2_loss, masked_ssim_loss: the term sees the foreground alone. masked_pixelalign_loss: each pixel's distance
    counts by its mask. A masked term that weighs nothing asks for no mask.
    warmup_pointsdist: at first points are only drawn to a distance, see `LossComputer`.
    clamp_rendering: the rendering is clamped to [0, 1] first.
    background_color_target: what the background term compares with, and the foreground of mask_iou differs from: a
        name, a grey in [0, 1], or red, green, blue; null for the data's background.
    mask_iou_threshold: mean difference from the background past which a pixel counts as drawn.

    Not of the public files are: ssim_variant, which masked loss is the SSIM term, by its name in
    `gslrm.model.tried_losses`; ssim_neutral_value, what the background is set to in it, in [0, 1];
    perceptual_weights_file, VGG19's weights, needed when that term counts.
    """

    l2_loss_weight: float = setting(1.0, NOT_NEGATIVE)
    ssim_loss_weight: float = setting(0.0, NOT_NEGATIVE)
    perceptual_loss_weight: float = setting(0.0, NOT_NEGATIVE)
    lpips_loss_weight: float = setting(0.0, NOT_NEGATIVE)
    pixelalign_loss_weight: float = setting(0.0, NOT_NEGATIVE)
    pointsdist_loss_weight: float = setting(0.0, NOT_NEGATIVE)
    background_loss_weight: float = setting(0.0, NOT_NEGATIVE)
    distill_loss_weight: Any = field(default=0, metadata=LEFT_ALONE)
    masked_l2_loss: bool = False
    masked_ssim_loss: bool = False
    masked_pixelalign_loss: bool = False
    warmup_pointsdist: bool = False
    clamp_rendering: bool = True
    background_color_target: ColourName | float | tuple[float, float, float] | None = field(
        default=None, metadata={"bounds": UNIT}
    )
    mask_iou_threshold: float = setting(0.1, NOT_NEGATIVE)
    ssim_variant: SsimVariant = "stable"
    ssim_neutral_value: float = setting(0.5, UNIT)
    perceptual_weights_file: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not any(getattr(self, name) for name in _WEIGHTS):
            raise ConfigError("l2_loss_weight is 0 and so are all other weights: nothing would be learned")
        if self.ssim_loss_weight and not self.masked_ssim_loss and self.ssim_variant != "stable":
            raise ConfigError(
                f"ssim_variant is {self.ssim_variant}, which needs the mask, but masked_ssim_loss is false"
            )

    def needs_mask(self) -> str | None:
        """The first key that asks for a mask, or None."""
        asks = {
            "masked_l2_loss": self.masked_l2_loss and self.l2_loss_weight > 0,
            "masked_ssim_loss": self.masked_ssim_loss and self.ssim_loss_weight > 0,
            "masked_pixelalign_loss": self.masked_pixelalign_loss and self.pixelalign_loss_weight > 0,
            "background_loss_weight": self.background_loss_weight > 0,
        }
        return next((key for key, asked in asks.items() if asked), None)
