"""All uses of CUDA that are tried, by topic."""

from __future__ import annotations

from tests.harness.pretence import uses_of_devices, uses_of_runtime, uses_of_training

BY_TOPIC = uses_of_devices.BY_TOPIC | uses_of_runtime.BY_TOPIC | uses_of_training.BY_TOPIC
