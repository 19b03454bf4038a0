"""What a result depends on besides the subject."""

from __future__ import annotations

import platform
import sys
from typing import Any


def environment() -> dict[str, Any]:
    """Versions, processor, thread count and GPU, as plain values."""
    import hypothesis
    import pytorch_msssim
    import torch

    from harness import __version__

    return {
        "harness": __version__,
        "python": sys.version.split()[0],
        "platform": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__,
        "hypothesis": hypothesis.__version__,
        "pytorch_msssim": getattr(pytorch_msssim, "__version__", "unknown"),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
