"""Settings of training, under `training:` in the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gslrm.config.sections import (
    AT_LEAST_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    UNIT,
    Bounds,
    Checked,
    ConfigError,
    setting,
)

Precision = Literal["fp16", "bf16", "fp32"]
SsimVariant = Literal["stable", "clamp", "foreground", "ms_ssim", "l1", "l2"]
ColourName = Literal["white", "gray", "black"]
_BELOW_ONE = Bounds(0, 1, open_high=True)
_LOSS_WEIGHTS = (
    "l2_loss_weight",
    "ssim_loss_weight",
    "perceptual_loss_weight",
    "lpips_loss_weight",
    "pixelalign_loss_weight",
    "pointsdist_loss_weight",
    "background_loss_weight",
)


@dataclass(frozen=True)
class RuntimeConfig(Checked):
    """How a step is taken.

    use_amp, amp_dtype: autocast to fp16 or bf16 (the default of null), or fp32 without autocast; see
        `precision`.
    grad_accum_steps: passes in an optimizer step. grad_clip_norm: the gradient's norm is clipped to this; 0
        leaves it. allowed_gradnorm_factor: the step is skipped past this many times grad_clip_norm.
    grad_checkpoint_every: blocks whose activations are recomputed together in the backward pass; 0 keeps all.
    seed: of weights and of what is drawn in training.
    log_every, picture_every, checkpoint_every: optimizer steps between two of each; 0 for never.
    """

    use_amp: bool = True
    amp_dtype: Precision | None = None
    grad_accum_steps: int = setting(1, AT_LEAST_ONE)
    grad_clip_norm: float = setting(1.0, NOT_NEGATIVE)
    allowed_gradnorm_factor: float = setting(20.0, AT_LEAST_ONE)
    grad_checkpoint_every: int = setting(1, NOT_NEGATIVE)
    seed: int = setting(0, Bounds(0, 2**63 - 1))
    log_every: int = setting(10, NOT_NEGATIVE)
    picture_every: int = setting(0, NOT_NEGATIVE)
    checkpoint_every: int = setting(1000, NOT_NEGATIVE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.use_amp and self.amp_dtype == "fp32":
            raise ConfigError("amp_dtype is fp32, but use_amp is true: set use_amp to false for float32")
        if not self.use_amp and self.amp_dtype in ("fp16", "bf16"):
            raise ConfigError(f"amp_dtype is {self.amp_dtype}, but use_amp is false: leave amp_dtype out for float32")

    @property
    def precision(self) -> Precision:
        """What the forward pass is autocast to, or fp32."""
        return self.amp_dtype or ("bf16" if self.use_amp else "fp32")


@dataclass(frozen=True)
class LossesConfig(Checked):
    """The terms of the loss, each with its weight.

    masked_l2_loss, masked_ssim_loss: the term sees the foreground alone. ssim_variant: how the masked SSIM
    term is formed, ssim_neutral_value: what the background is set to in it, in [0, 1].
    clamp_rendering: the rendering is clamped to [0, 1] first.
    l2_warmup_steps: steps at the start in which perceptual and LPIPS terms are 0, and pointsdist weighs
    warmup_pointsdist_loss_weight. perceptual_weights_file: VGG19's weights, needed when that term counts.
    """

    l2_loss_weight: float = setting(1.0, NOT_NEGATIVE)
    ssim_loss_weight: float = setting(0.5, NOT_NEGATIVE)
    perceptual_loss_weight: float = setting(0.0, NOT_NEGATIVE)
    lpips_loss_weight: float = setting(0.0, NOT_NEGATIVE)
    pixelalign_loss_weight: float = setting(0.0, NOT_NEGATIVE)
    pointsdist_loss_weight: float = setting(0.0, NOT_NEGATIVE)
    background_loss_weight: float = setting(0.0, NOT_NEGATIVE)
    masked_l2_loss: bool = True
    masked_ssim_loss: bool = True
    masked_pixelalign_loss: bool = False
    ssim_variant: SsimVariant = "stable"
    ssim_neutral_value: float = setting(0.5, UNIT)
    clamp_rendering: bool = True
    l2_warmup_steps: int = setting(0, NOT_NEGATIVE)
    warmup_pointsdist_loss_weight: float = setting(0.0, NOT_NEGATIVE)
    perceptual_weights_file: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not any(getattr(self, name) for name in _LOSS_WEIGHTS):
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


@dataclass(frozen=True)
class OptimizerConfig(Checked):
    """AdamW. lr: the highest learning rate. weight_decay: on parameters of two dimensions or more."""

    lr: float = setting(4e-4, POSITIVE)
    beta1: float = setting(0.9, _BELOW_ONE)
    beta2: float = setting(0.95, _BELOW_ONE)
    weight_decay: float = setting(0.05, NOT_NEGATIVE)


@dataclass(frozen=True)
class ScheduleConfig(Checked):
    """The learning rate rises for `warmup` optimizer steps, then falls as a cosine until `total_steps`."""

    warmup: int = setting(2000, NOT_NEGATIVE)
    total_steps: int = setting(80_000, AT_LEAST_ONE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup > self.total_steps:
            raise ConfigError(f"warmup is {self.warmup}, which is past total_steps, {self.total_steps}")


@dataclass(frozen=True)
class DatasetConfig(Checked):
    """What is trained on.

    scenes: a scene folder, or a list file of them. num_views: views drawn from a scene, all supervised;
    num_input_views: how many of them the model sees. batch_size: scenes in a pass of one process.
    background_color: a name or red, green, blue in [0, 1]. remove_alpha: pictures come without a mask.
    mask_threshold: RGB pictures are background where all channels exceed this; 0 to 255.
    """

    scenes: str | None = None
    num_views: int = setting(8, AT_LEAST_ONE)
    num_input_views: int = setting(4, AT_LEAST_ONE)
    batch_size: int = setting(1, AT_LEAST_ONE)
    background_color: ColourName | tuple[float, float, float] = field(default="white", metadata={"bounds": UNIT})
    remove_alpha: bool = False
    mask_threshold: int = setting(250, Bounds(0, 255))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_input_views > self.num_views:
            raise ConfigError(f"num_input_views is {self.num_input_views}, past num_views, {self.num_views}")


@dataclass(frozen=True)
class TrainingConfig(Checked):
    """Training: the step, the loss, the optimizer with its schedule, and the data."""

    runtime: RuntimeConfig = RuntimeConfig()
    losses: LossesConfig = LossesConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    dataset: DatasetConfig = DatasetConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        asking = self.losses.needs_mask()
        if asking and self.dataset.remove_alpha:
            raise ConfigError(f"losses.{asking} needs a mask, but dataset.remove_alpha is true")
