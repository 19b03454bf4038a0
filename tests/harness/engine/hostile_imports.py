"""Modules that misbehave when they are imported or when the interpreter ends, as text."""

_LOSS = "\ndef loss(x, y):\n    return (x.float() - y.float()).square().mean()\n"
_STOPS_THERE = {
    "exits": "import sys; sys.exit(0)",
    "ends": "import os; os._exit(5)",
    "segfaults": "import ctypes; ctypes.string_at(0)",
    "hangs": "import time; time.sleep(600)",
}
STOPS_THERE = {name: text + _LOSS for name, text in _STOPS_THERE.items()}
HANGS_AT_EXIT = "import atexit, time; atexit.register(time.sleep, 600)" + _LOSS
