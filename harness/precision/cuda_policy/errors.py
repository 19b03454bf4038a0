"""The errors of the CUDA autocast emulation. Each message says what was wrong, where, and what to do."""

from __future__ import annotations


class CudaPolicyError(RuntimeError):
    """Base of every error that this package raises of its own accord."""


class HeaderNotUnderstoodError(CudaPolicyError, ValueError):
    """The installed torch's autocast header says something that the reader does not know."""


class PolicyMismatchError(CudaPolicyError):
    """Header, dispatcher and dtype oracle do not tell the same story about an op."""


class EmulationConflictError(CudaPolicyError):
    """The emulation cannot be right here, so it refuses."""


class OracleUnavailableError(CudaPolicyError):
    """The dtype oracle cannot run an op without its data."""


class BannedUnderAutocastError(CudaPolicyError):
    """The op is one that CUDA autocast refuses to run."""
