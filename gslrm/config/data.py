"""Settings of what is trained on: under `training.dataset:`, `training.dataloader:` and `mouse:` in the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from gslrm.config.sections import AT_LEAST_ONE, LEFT_ALONE, UNIT, Bounds, Checked, ConfigError, setting

ColourName = Literal["white", "gray", "black"]


@dataclass(frozen=True)
class DatasetConfig(Checked):
    """Which scenes, and which of their views.

    dataset_path: a list file of scene folders, or one such folder. num_views: views drawn from a scene;
    num_input_views: how many of them the model sees. target_has_input: all drawn views are supervised; otherwise only
    those that the model does not see.
    background_color: a name or red, green, blue in [0, 1]. remove_alpha: pictures come without a mask.
    mask_threshold: RGB pictures are background where all channels exceed this; 0 to 255.
    """

    dataset_path: str | None = None
    maximize_view_overlap: Any = field(default=False, metadata=LEFT_ALONE)
    num_views: int = setting(8, AT_LEAST_ONE)
    num_input_views: int = setting(4, AT_LEAST_ONE)
    target_has_input: bool = True
    normalize_distance_to: Any = field(default=0, metadata=LEFT_ALONE)
    remove_alpha: bool = False
    background_color: ColourName | tuple[float, float, float] = field(default="white", metadata={"bounds": UNIT})
    mask_threshold: int = setting(250, Bounds(0, 255))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_input_views > self.num_views:
            raise ConfigError(f"num_input_views is {self.num_input_views}, past num_views, {self.num_views}")
        if not self.target_has_input and self.num_input_views == self.num_views:
            raise ConfigError(
                f"target_has_input is false, but num_input_views is num_views, {self.num_views}: no view is left to "
                "supervise"
            )


@dataclass(frozen=True)
class DataloaderConfig(Checked):
    """batch_size_per_gpu: scenes in a pass of one process. The rest is about loading, but scenes are held in memory."""

    batch_size_per_gpu: int = setting(1, AT_LEAST_ONE)
    num_workers: Any = field(default=None, metadata=LEFT_ALONE)
    num_threads: Any = field(default=None, metadata=LEFT_ALONE)
    prefetch_factor: Any = field(default=None, metadata=LEFT_ALONE)


@dataclass(frozen=True)
class AugmentationConfig(Checked):
    """Changes to pictures as they are drawn; none is made."""

    enabled: Any = field(default=False, metadata=LEFT_ALONE)
    brightness_range: Any = field(default=None, metadata=LEFT_ALONE)
    contrast_range: Any = field(default=None, metadata=LEFT_ALONE)
    hflip: Any = field(default=False, metadata=LEFT_ALONE)


@dataclass(frozen=True)
class MouseConfig(Checked):
    """What the mouse files ask of their data; scenes are taken as they are on disk."""

    use_mouse_dataset: Any = field(default=False, metadata=LEFT_ALONE)
    normalize_cameras: Any = field(default=False, metadata=LEFT_ALONE)
    target_camera_distance: Any = field(default=None, metadata=LEFT_ALONE)
    normalize_to_z_up: Any = field(default=False, metadata=LEFT_ALONE)
    augmentation: AugmentationConfig = AugmentationConfig()
