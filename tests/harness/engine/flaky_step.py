"""A step that raises at every ninth call of the process, whatever it is called with."""

from gslrm.training.amp_step import AmpStep

_calls = 0


class FlakyStep(AmpStep):
    def step(self):
        global _calls
        _calls += 1
        if _calls % 9 == 0:
            raise RuntimeError("the ninth time")
        return super().step()


class LeavesWithCodeThree(AmpStep):
    def step(self):
        raise SystemExit(3)
