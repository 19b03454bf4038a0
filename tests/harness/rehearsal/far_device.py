"""A process in which a script is rehearsed as on a GPU: every tensor counts as far away, and its numbers come late.

``python -m tests.harness.rehearsal.far_device WINDOWS ORDER`` runs the order, as JSON, in this process; numbers are
there so many windows after they were asked for, or at once for 0, and then also count as near.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from harness.rehearsal import readings
from harness.rehearsal.observed_process import rehearse_process
from harness.rehearsal.readings import Readings


class Late:
    """In the place of a CUDA event: over when it has been asked so often, and once more."""

    def __init__(self, asked: int = 1) -> None:
        self._left = asked

    def query(self) -> bool:
        """Whether it is over."""
        self._left -= 1
        return self._left < 0

    def synchronize(self) -> None:
        """Wait until it is."""
        self._left = 0


def main(windows: int, order: dict[str, Any]) -> None:
    """Run it; never returns."""
    if windows:
        Readings.is_away = lambda self, tensor: True  # type: ignore[method-assign]
        readings._event = lambda device: Late(windows)
    os.chdir(order["folder"])
    rehearse_process(order, None)


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]))
