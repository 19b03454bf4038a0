"""The errors of the CUDA autocast emulation. Each message says what was wrong, where, and what to do."""

from __future__ import annotations

from harness.errors import PrecisionError


class CudaPolicyError(PrecisionError):
    """Base of the errors that say that the emulation, or one of its proofs, can't be had here."""


class HeaderNotUnderstoodError(CudaPolicyError):
    """The installed torch's autocast header is missing, or says something that the reader does not know."""


class PolicyMismatchError(CudaPolicyError):
    """Header, dispatcher and dtype oracle do not tell the same story about an op."""


class UnknownOpError(CudaPolicyError):
    """A subject called an op that CUDA autocast casts in a way that this version does not know."""


class EmulationUnavailableError(CudaPolicyError):
    """The installed torch does not let the emulation in."""


class EmulationConflictError(CudaPolicyError):
    """The emulation cannot be right here, so it refuses."""


class OracleUnavailableError(CudaPolicyError):
    """The dtype oracle cannot run an op without its data, or without a GPU."""


class BannedUnderAutocastError(RuntimeError):
    """The op is one that CUDA autocast refuses to run. CUDA itself would raise this: a verdict on the subject."""
