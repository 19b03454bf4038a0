"""Settings of a model and its training: the public YAML files' structure, typed and checked."""

from gslrm.config.data import DataloaderConfig, DatasetConfig, MouseConfig
from gslrm.config.losses import LossesConfig
from gslrm.config.model import GaussiansConfig, ImageTokenizerConfig, ModelConfig, TransformerConfig
from gslrm.config.reading import PRESETS, config_to_yaml, load_config
from gslrm.config.sections import ConfigError
from gslrm.config.training import (
    CheckpointingConfig,
    LoggingConfig,
    OptimizerConfig,
    RuntimeConfig,
    ScheduleConfig,
    TrainingConfig,
)
from gslrm.config.whole import Config

__all__ = [
    "PRESETS",
    "CheckpointingConfig",
    "Config",
    "ConfigError",
    "DataloaderConfig",
    "DatasetConfig",
    "GaussiansConfig",
    "ImageTokenizerConfig",
    "LoggingConfig",
    "LossesConfig",
    "ModelConfig",
    "MouseConfig",
    "OptimizerConfig",
    "RuntimeConfig",
    "ScheduleConfig",
    "TrainingConfig",
    "TransformerConfig",
    "config_to_yaml",
    "load_config",
]
