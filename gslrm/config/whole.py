"""All settings together.

The structure is that of FaceLift's public YAML files. A public key that nothing here acts on is accepted and named in
the log when it asks for something; an unknown key is an error. The settings that the public files do not have are
`runtime.seed`, `dataset.mask_threshold`, and in `losses` `ssim_variant`, `ssim_neutral_value` and
`perceptual_weights_file`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gslrm.config.data import MouseConfig
from gslrm.config.losses import SsimVariant
from gslrm.config.model import ModelConfig
from gslrm.config.sections import LEFT_ALONE, Checked, ConfigError
from gslrm.config.training import TrainingConfig

# SSIM's window is 11 px wide. For MS-SSIM it must fit in the picture halved four times.
SSIM_SMALLEST_SIDES: dict[SsimVariant, int] = {
    "stable": 11,
    "clamp": 11,
    "foreground": 11,
    "ms_ssim": 161,
    "l1": 1,
    "l2": 1,
}
"""Pixels that each side of a picture must have at least, by how the SSIM term is formed."""


@dataclass(frozen=True)
class EvaluationConfig(Checked):
    """Looks at the model beside training; none is taken."""

    enabled: Any = field(default=False, metadata=LEFT_ALONE)
    output_dir: Any = field(default=None, metadata=LEFT_ALONE)
    val_every: Any = field(default=None, metadata=LEFT_ALONE)
    dataset_path: Any = field(default=None, metadata=LEFT_ALONE)


@dataclass(frozen=True)
class Config(Checked):
    """A model and its training. Raises ConfigError for settings out of range or contradicting each other."""

    profile: Any = field(default=False, metadata=LEFT_ALONE)
    debug: Any = field(default=False, metadata=LEFT_ALONE)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    inference: EvaluationConfig = EvaluationConfig()
    validation: EvaluationConfig = EvaluationConfig()
    mouse: MouseConfig = field(default_factory=MouseConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        losses, side = self.training.losses, self.model.image_tokenizer.image_size
        smallest = SSIM_SMALLEST_SIDES[losses.ssim_variant]
        if losses.ssim_loss_weight and side < smallest:
            raise ConfigError(
                f"model.image_tokenizer.image_size is {side}, but training.losses.ssim_variant "
                f"{losses.ssim_variant} needs at least {smallest} px"
            )
