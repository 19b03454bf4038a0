"""One small function per property, with the sentence that a person reads when it breaks."""

from harness.properties.loss import LOSS_PROPERTIES
from harness.properties.loss_property import LossProperty
from harness.properties.ranks import ranks_agree
from harness.properties.step import STEP_PROPERTIES
from harness.properties.step_property import StepProperty

RANKS_AGREE = ranks_agree

__all__ = ["LOSS_PROPERTIES", "RANKS_AGREE", "STEP_PROPERTIES", "LossProperty", "StepProperty"]
