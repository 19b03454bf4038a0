"""One small function per property, with the sentence that a person reads when it breaks."""

from harness.properties.loss import LOSS_PROPERTIES, LossProperty
from harness.properties.ranks import RANKS_AGREE
from harness.properties.step import STEP_PROPERTIES, StepProperty

__all__ = ["LOSS_PROPERTIES", "RANKS_AGREE", "STEP_PROPERTIES", "LossProperty", "StepProperty"]
