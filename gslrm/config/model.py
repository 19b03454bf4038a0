"""Settings of the model, under `model:` in the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gslrm.config.sections import AT_LEAST_ONE, LEFT_ALONE, NOT_NEGATIVE, Checked, ConfigError, setting

POSED_CHANNELS, AUGMENTED_CHANNELS = 9, 12
"""RGB and six numbers for the ray; with `use_aug_plucker` nine."""


@dataclass(frozen=True)
class ImageTokenizerConfig(Checked):
    """image_size: side of the square pictures, px. patch_size: side of a patch, px. in_channels: 9, or 12 with
    `use_aug_plucker`."""

    image_size: int = setting(512, AT_LEAST_ONE)
    patch_size: int = setting(8, AT_LEAST_ONE)
    in_channels: int = setting(POSED_CHANNELS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size % self.patch_size:
            raise ConfigError(f"image_size is {self.image_size}, which is no multiple of patch_size, {self.patch_size}")


@dataclass(frozen=True)
class TransformerConfig(Checked):
    """d: width of a token. d_head: width of an attention head, a divisor of d. n_layer: number of blocks."""

    d: int = setting(1024, AT_LEAST_ONE)
    d_head: int = setting(64, AT_LEAST_ONE)
    n_layer: int = setting(24, AT_LEAST_ONE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.d % self.d_head:
            raise ConfigError(f"d is {self.d}, which is no multiple of d_head, {self.d_head}")


@dataclass(frozen=True)
class UpsamplerConfig(Checked):
    """upsample_factor: Gaussians of a learned token, 1."""

    upsample_factor: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.upsample_factor != 1:
            raise ConfigError(f"upsample_factor is {self.upsample_factor}, but only 1 is supported")


@dataclass(frozen=True)
class GaussiansConfig(Checked):
    """How tokens become Gaussians.

    n_gaussians: learned tokens, each one Gaussian. sh_degree: 0, a colour that is the same from all sides.
    """

    n_gaussians: int = setting(2, NOT_NEGATIVE)
    sh_degree: int = setting(0, NOT_NEGATIVE)
    upsampler: UpsamplerConfig = UpsamplerConfig()
    scaling_modifier: Any = field(default=None, metadata=LEFT_ALONE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sh_degree != 0:
            raise ConfigError(f"sh_degree is {self.sh_degree}, but only 0 is supported")


@dataclass(frozen=True)
class ModelConfig(Checked):
    """The model: how pictures become tokens, tokens are transformed, and become Gaussians.

    add_refsrc_marker: a learned embedding tells the first view's tokens from the others'. hard_pixelalign: a pixel's
    Gaussian lies on its ray. clip_xyz: centres put on rays are clamped to [-1, 1] in training.
    use_custom_plucker: rays are given by direction and point nearest the origin, and depth is counted from that point;
    otherwise by moment and direction, and depth from the camera. use_aug_plucker: rays are given by moment, direction
    and nearest point; depth as `use_custom_plucker` says.
    """

    image_tokenizer: ImageTokenizerConfig = ImageTokenizerConfig()
    transformer: TransformerConfig = TransformerConfig()
    gaussians: GaussiansConfig = GaussiansConfig()
    add_refsrc_marker: bool = False
    hard_pixelalign: bool = True
    use_custom_plucker: bool = True
    use_aug_plucker: bool = False
    clip_xyz: bool = True
    class_name: Any = field(default=None, metadata=LEFT_ALONE)
    depth_preact_bias: Any = field(default=None, metadata=LEFT_ALONE)
    depth_min: Any = field(default=None, metadata=LEFT_ALONE)
    depth_max: Any = field(default=None, metadata=LEFT_ALONE)
    depth_reference_origin: Any = field(default=None, metadata=LEFT_ALONE)

    def __post_init__(self) -> None:
        super().__post_init__()
        expected = AUGMENTED_CHANNELS if self.use_aug_plucker else POSED_CHANNELS
        if self.image_tokenizer.in_channels != expected:
            raise ConfigError(
                f"image_tokenizer.in_channels is {self.image_tokenizer.in_channels}, but a posed image has {expected}: "
                f"RGB and its ray, with use_aug_plucker {str(self.use_aug_plucker).lower()}"
            )
