"""A process in which CUDA seems to be there: CUDA training scripts, unmodified, on the CPU."""

from harness.pretence.process import pretend_cuda
from harness.pretence.refusals import CannotPretendError

__all__ = ["CannotPretendError", "pretend_cuda"]
