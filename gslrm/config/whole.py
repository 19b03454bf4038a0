"""All settings together.

The structure is that of FaceLift's public YAML files as far as it is described: sections `model` and
`training`, and in them those of `gslrm.config.model` and `gslrm.config.training`. A setting whose key is not
described has the evident one; `load_config(..., ignore_unknown=True)` reads a file that has others.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gslrm.config.model import ModelConfig
from gslrm.config.sections import Checked, ConfigError
from gslrm.config.training import TrainingConfig

SSIM_SMALLEST_SIDE = 11
"""SSIM's window, px."""
MS_SSIM_SMALLEST_SIDE = 161
"""The window must fit in the picture halved four times."""


@dataclass(frozen=True)
class Config(Checked):
    """A model and its training. Raises ConfigError for settings out of range or contradicting each other."""

    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        losses, side = self.training.losses, self.model.image_tokenizer.image_size
        smallest = {"ms_ssim": MS_SSIM_SMALLEST_SIDE, "l1": 1, "l2": 1}.get(losses.ssim_variant, SSIM_SMALLEST_SIDE)
        if losses.ssim_loss_weight and side < smallest:
            raise ConfigError(
                f"model.image_tokenizer.image_size is {side}, but training.losses.ssim_variant "
                f"{losses.ssim_variant} needs at least {smallest} px"
            )
