"""The end of a command's process."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """End the process with this code, as ``sys.exit`` would, but don't take its modules apart: of torch's that takes
    half a second. What was registered to be done at exit is done, and a thread that still runs is waited for.
    """
    if "torch" not in sys.modules or threading.active_count() > 1:
        sys.exit(code)
    # Python's own name for it; there is no other to do this and not the rest.
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except (OSError, ValueError):
        sys.exit(code)
    os._exit(code)
