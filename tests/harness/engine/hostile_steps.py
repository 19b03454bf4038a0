"""Steps and a training that raise or end at odd moments."""

import os

import torch.distributed

from gslrm.testing.tiny_training import TinyTraining
from gslrm.training.amp_step import AmpStep

_calls = 0


class FlakyStep(AmpStep):
    """Raises at every ninth call of the process after the hundredth, whatever it is called with."""

    def step(self):
        global _calls
        _calls += 1
        if _calls > 100 and _calls % 9 == 0:
            raise RuntimeError("the ninth time")
        return super().step()


class LeavesWithCodeThree(AmpStep):
    """Not at the first good window, which is to tell whether it fits."""

    def step(self):
        if self.fwdbwd_pass_step > 1:
            raise SystemExit(3)
        return super().step()


class EndsInTheSecondProcess(TinyTraining):
    """Of two that train together, one ends at a bad batch."""

    def train_on(self, images):
        together = torch.distributed.is_initialized() and torch.distributed.get_rank() == 1
        if together and not bool(torch.isfinite(images).all()):
            os._exit(9)
        return super().train_on(images)
