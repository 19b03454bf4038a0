"""What all tests share."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import HealthCheck, settings

# Settings and colours of whoever runs the tests are not the tests' business, nor their subprocesses'.
_TERMINAL = {"FORCE_COLOR", "CLICOLOR_FORCE", "PY_COLORS", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}
for _name in [name for name in os.environ if name.startswith("HARNESS_") or name in _TERMINAL]:
    del os.environ[_name]
# Nor does a subprocess gain from threads: where all processors are at work, those that wait for each other take many
# times as long.
os.environ["OMP_NUM_THREADS"] = "1"

# Hypothesis would choose a profile of its own where it sees a CI.
settings.register_profile(
    "gslrm-harness", deadline=None, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("gslrm-harness")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Tiny tensors gain nothing from threads, and the workers share the processors."""
    torch.set_num_threads(1)
