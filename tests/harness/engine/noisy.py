"""A loss that warns, prints and is wrong, and a step that raises once and then never comes back.

Imported by path, by workers of their own; the folder that they run in holds what they tell each other.
"""

import os
import sys
import time
import warnings

import torch

from gslrm.training.amp_step import AmpStep
from harness.engine import session

_RAISED = "raised"
_SLEEP = 600.0


def loss(x, y):
    """Wrong in float16, as soon as the step has raised."""
    print("what a subject says", flush=True)
    sys.stderr.write("what a subject complains of\n")
    warnings.warn(f"an odd image of {x.shape[-1]} columns", stacklevel=1)  # here
    if x.dtype == torch.float16:
        while not os.path.exists(_RAISED):
            time.sleep(0.01)
        return (x.float() - y.float()).square().mean() - 1.0
    return (x - y).square().mean()


class RaisesOnceThenHangs(AmpStep):
    """Not while it is loaded, when what it does is found out."""

    def step(self):
        if not _is_loading():
            if os.path.exists(_RAISED):
                time.sleep(_SLEEP)
            with open(_RAISED, "w"):
                raise RuntimeError("the only time")
        return super().step()


def _is_loading():
    frame = sys._getframe()
    while frame is not None and (frame.f_code.co_filename, frame.f_code.co_name) != (session.__file__, "__init__"):
        frame = frame.f_back
    return frame is not None


def crashes(x, y):
    """Takes its process with it in float16, with words."""
    if x.dtype == torch.float16:
        for number in range(50_000):
            print("line", number)
        sys.stderr.write("deep in \x1b[31mnative code")
        os._exit(7)
    return (x - y).square().mean()
