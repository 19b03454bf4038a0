"""Settings of a model and its training: the public YAML files' structure, typed and checked."""

from gslrm.config.model import GaussiansConfig, ImageTokenizerConfig, ModelConfig, TransformerConfig
from gslrm.config.reading import PRESETS, config_to_yaml, load_config
from gslrm.config.sections import ConfigError
from gslrm.config.training import (
    DatasetConfig,
    LossesConfig,
    OptimizerConfig,
    RuntimeConfig,
    ScheduleConfig,
    TrainingConfig,
)
from gslrm.config.whole import Config

__all__ = [
    "PRESETS",
    "Config",
    "ConfigError",
    "DatasetConfig",
    "GaussiansConfig",
    "ImageTokenizerConfig",
    "LossesConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RuntimeConfig",
    "ScheduleConfig",
    "TrainingConfig",
    "TransformerConfig",
    "config_to_yaml",
    "load_config",
]
