"""Settings of the model, under `model:` in the file."""

from __future__ import annotations

from dataclasses import dataclass

from gslrm.config.sections import AT_LEAST_ONE, NOT_NEGATIVE, Checked, ConfigError, setting

POSED_CHANNELS = 9
"""RGB and six numbers for the ray."""


@dataclass(frozen=True)
class ImageTokenizerConfig(Checked):
    """image_size: side of the square pictures, px. patch_size: side of a patch, px. in_channels: 9."""

    image_size: int = setting(512, AT_LEAST_ONE)
    patch_size: int = setting(8, AT_LEAST_ONE)
    in_channels: int = setting(POSED_CHANNELS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size % self.patch_size:
            raise ConfigError(f"image_size is {self.image_size}, which is no multiple of patch_size, {self.patch_size}")
        if self.in_channels != POSED_CHANNELS:
            raise ConfigError(
                f"in_channels is {self.in_channels}, but a posed image has {POSED_CHANNELS}: RGB and its ray"
            )


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
class GaussiansConfig(Checked):
    """How tokens become Gaussians.

    n_gaussians: learned tokens, each one Gaussian. sh_degree: 0, a colour that is the same from all sides.
    hard_pixelalign: a pixel's Gaussian lies on its ray. clip_xyz: centres are clamped to [-1, 1].
    use_custom_plucker: rays are given by direction and point nearest the origin, else by moment and
        direction.
    """

    n_gaussians: int = setting(2, NOT_NEGATIVE)
    sh_degree: int = setting(0, NOT_NEGATIVE)
    hard_pixelalign: bool = True
    clip_xyz: bool = True
    use_custom_plucker: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sh_degree != 0:
            raise ConfigError(f"sh_degree is {self.sh_degree}, but only 0 is supported")


@dataclass(frozen=True)
class ModelConfig(Checked):
    """The model: how pictures become tokens, tokens are transformed, and become Gaussians."""

    image_tokenizer: ImageTokenizerConfig = ImageTokenizerConfig()
    transformer: TransformerConfig = TransformerConfig()
    gaussians: GaussiansConfig = GaussiansConfig()
