"""The errors a person is meant to read, and the exit code each ends a command with."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """What a command's exit status means."""

    HELD = 0
    VIOLATED = 1
    USAGE = 2
    SUBJECT = 3


class HarnessError(Exception):
    """Something a person can mend; the message is one sentence that says what, where and what to do."""

    exit_code = ExitCode.USAGE


class UsageError(HarnessError):
    """An option, setting or file given to the harness is wrong."""


class SubjectError(HarnessError):
    """The subject could not be loaded or does not fit what the harness calls."""

    exit_code = ExitCode.SUBJECT
