"""Settings of training, under `training:` in the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from gslrm.config.data import DataloaderConfig, DatasetConfig
from gslrm.config.losses import LossesConfig
from gslrm.config.sections import (
    AT_LEAST_ONE,
    LEFT_ALONE,
    NOT_NEGATIVE,
    POSITIVE,
    Bounds,
    Checked,
    ConfigError,
    setting,
)

Precision = Literal["fp16", "bf16", "fp32"]
_BELOW_ONE = Bounds(0, 1, open_high=True)


@dataclass(frozen=True)
class RuntimeConfig(Checked):
    """How a step is taken.

    use_tf32: float32 products on a GPU may run in TF32. use_amp, amp_dtype: autocast to fp16 or bf16 (the default of
        null); without use_amp float32, whatever amp_dtype says; see `precision`.
    grad_accum_steps: passes in an optimizer step. grad_clip_norm: the gradient's norm is clipped to this; 0
        leaves it. allowed_gradnorm_factor: the step is skipped past this many times grad_clip_norm.
    grad_checkpoint_every: blocks whose activations are recomputed together in the backward pass; 0 keeps all.
    seed: of weights and of what is drawn in training; not of the public files.
    """

    use_tf32: bool = False
    use_amp: bool = True
    amp_dtype: Precision | None = None
    torch_compile: Any = field(default=False, metadata=LEFT_ALONE)
    grad_accum_steps: int = setting(1, AT_LEAST_ONE)
    grad_clip_norm: float = setting(1.0, NOT_NEGATIVE)
    allowed_gradnorm_factor: float = setting(20.0, AT_LEAST_ONE)
    grad_checkpoint_every: int = setting(1, NOT_NEGATIVE)
    seed: int = setting(0, Bounds(0, 2**63 - 1))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.use_amp and self.amp_dtype == "fp32":
            raise ConfigError("amp_dtype is fp32, but use_amp is true: set use_amp to false for float32")

    @property
    def precision(self) -> Precision:
        """What the forward pass is autocast to, or fp32."""
        return (self.amp_dtype or "bf16") if self.use_amp else "fp32"


@dataclass(frozen=True)
class OptimizerConfig(Checked):
    """AdamW. lr: the highest learning rate. weight_decay: on parameters of two dimensions or more.

    What of a resumed `checkpointing.resume_ckpt` is dropped: reset_lr, its learning rate; reset_weight_decay, its
    weight decay; reset_training_state, everything but the weights.
    """

    lr: float = setting(4e-4, POSITIVE)
    beta1: float = setting(0.9, _BELOW_ONE)
    beta2: float = setting(0.95, _BELOW_ONE)
    weight_decay: float = setting(0.05, NOT_NEGATIVE)
    reset_lr: bool = False
    reset_weight_decay: bool = False
    reset_training_state: bool = False


@dataclass(frozen=True)
class ScheduleConfig(Checked):
    """How long training lasts, and how the learning rate changes in it.

    num_epochs, max_fwdbwd_passes: training's planned length is the shorter of both; null for no limit.
    early_stop_after_epochs: training stops after so many epochs, its schedule cut short; null or 0 for never. An epoch
        is as many passes as see as many scenes as there are.
    warmup: optimizer steps in which the learning rate rises; from there it falls as a cosine over the planned length.
    l2_warmup_steps: optimizer steps at the start without perceptual and LPIPS terms.
    """

    num_epochs: int | None = setting(None, AT_LEAST_ONE)
    early_stop_after_epochs: int | None = setting(None, NOT_NEGATIVE)
    max_fwdbwd_passes: int | None = setting(80_000, AT_LEAST_ONE)
    warmup: int = setting(2000, NOT_NEGATIVE)
    l2_warmup_steps: int = setting(0, NOT_NEGATIVE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_epochs is None and self.max_fwdbwd_passes is None:
            raise ConfigError("num_epochs and max_fwdbwd_passes are both null: training would not end")

    def planned_passes(self, passes_per_epoch: int | None = None) -> int:
        """Passes that the schedule is made for. Raises ConfigError where epochs alone limit it and their length is not
        known."""
        limits = [] if self.max_fwdbwd_passes is None else [self.max_fwdbwd_passes]
        if self.num_epochs is not None and passes_per_epoch is not None:
            limits.append(self.num_epochs * passes_per_epoch)
        if not limits:
            raise ConfigError("schedule.num_epochs limits training, but how many passes an epoch has is not known")
        return min(limits)

    def passes_to_run(self, passes_per_epoch: int | None = None) -> int:
        """Passes until training ends, early or as planned."""
        planned = self.planned_passes(passes_per_epoch)
        if self.early_stop_after_epochs and passes_per_epoch is not None:
            return min(planned, self.early_stop_after_epochs * passes_per_epoch)
        return planned


@dataclass(frozen=True)
class CheckpointingConfig(Checked):
    """resume_ckpt: a checkpoint file, or a folder of them, to start from; null or "" for none. checkpoint_every: passes
    between two checkpoints, written when an optimizer step is over; 0 for only at the end. checkpoint_dir: where they
    go."""

    resume_ckpt: str | None = None
    checkpoint_every: int = setting(1000, NOT_NEGATIVE)
    checkpoint_dir: str | None = None


@dataclass(frozen=True)
class WandbConfig(Checked):
    """Weights & Biases; nothing is sent anywhere."""

    project: Any = field(default=None, metadata=LEFT_ALONE)
    exp_name: Any = field(default=None, metadata=LEFT_ALONE)
    group: Any = field(default=None, metadata=LEFT_ALONE)
    job_type: Any = field(default=None, metadata=LEFT_ALONE)
    log_every: Any = field(default=None, metadata=LEFT_ALONE)
    offline: Any = field(default=False, metadata=LEFT_ALONE)


@dataclass(frozen=True)
class LoggingConfig(Checked):
    """print_every, vis_every: passes between two lines of progress, and between two sheets of pictures; 0 for never."""

    print_every: int = setting(10, NOT_NEGATIVE)
    vis_every: int = setting(0, NOT_NEGATIVE)
    wandb: WandbConfig = WandbConfig()


@dataclass(frozen=True)
class TrainingConfig(Checked):
    """Training: the step, the loss, the optimizer with its schedule, and the data."""

    runtime: RuntimeConfig = RuntimeConfig()
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    dataloader: DataloaderConfig = field(default_factory=DataloaderConfig)
    losses: LossesConfig = field(default_factory=LossesConfig)
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    checkpointing: CheckpointingConfig = CheckpointingConfig()
    logging: LoggingConfig = LoggingConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        asking = self.losses.needs_mask()
        if asking and self.dataset.remove_alpha:
            raise ConfigError(f"losses.{asking} needs a mask, but dataset.remove_alpha is true")
