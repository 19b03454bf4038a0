"""The errors a person is meant to read, the exit code of each, and exceptions of others put in words."""

from __future__ import annotations

import difflib
import enum
import signal
import unicodedata
from collections.abc import Iterable

# What a message may bring of a subject's own words: enough for any sentence, and no more than a screen.
MESSAGE_LIMIT = 2048


class ExitCode(enum.IntEnum):
    """What a command's exit status means."""

    HELD = 0
    VIOLATED = 1
    USAGE = 2
    SUBJECT = 3
    HARNESS = 4  # the harness itself failed
    INCOMPLETE = 5  # nothing is violated, but not all that was asked for was run
    PRECISION = 6  # a precision can't be had here


class HarnessError(Exception):
    """Something a person can mend; the message is one sentence that says what, where and what to do."""

    exit_code = ExitCode.USAGE


class UsageError(HarnessError):
    """An option, setting or file given to the harness is wrong."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> UsageError:
    """That there is no such ``what`` (say ``"precision"``), with the nearest name that there is, and all of them."""
    names = list(known)
    close = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return UsageError(f"there is no {what} {name!r}; {hint}known are {', '.join(names)}.")


class SubjectError(HarnessError):
    """The subject could not be loaded or does not fit what the harness calls."""

    exit_code = ExitCode.SUBJECT


class PrecisionError(HarnessError):
    """This torch, or this machine, can't run what a precision needs: neither the subject's nor the user's doing.

    In a check it leaves the cell "not run", with the message as the reason.
    """

    exit_code = ExitCode.PRECISION


class HarnessFailure(Exception):
    """The harness itself failed, not the subject that it was calling; the message is what happened."""


class Interrupted(BaseException):
    """The user, or the system, ends the command with a signal; no ``except Exception`` takes it for anything else."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """What a shell says of a command that the signal ended."""
        return 128 + self.signum


def reraise_unless_subjects(error: BaseException) -> None:
    """Raise ``error`` again where it isn't the doing of the subject that was called.

    The subject's own is whatever else comes out of it: ``SystemExit``, and a ``KeyboardInterrupt`` where Ctrl-C
    raises none in this process.
    """
    users = isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if users or isinstance(error, (HarnessError, HarnessFailure, Interrupted)):
        raise error


def ending(exit_code: int | None) -> str:
    """How a process ended, as a verdict says it; ``exit_code`` is negative for a signal, ``None`` where unknown."""
    if exit_code is None:
        return "closes its connection to the harness"
    if exit_code >= 0:
        return f"ends the interpreter (exit code {exit_code})"
    aside = ", as when memory runs out" if exit_code == -signal.SIGKILL else ""
    return f"ends the interpreter (signal {-exit_code}{aside})"


def printable(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """``text`` without control characters and lone surrogates, cut to ``limit`` characters; newlines and tabs stay."""
    head = text[:limit]
    clean = "".join(c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs") else "�" for c in head)
    return clean if len(text) <= limit else f"{clean} [… {len(text) - limit} more characters]"


def describe_exception(error: BaseException) -> str:
    """Type and first line of the message, fit to print, whatever the exception's own ``__str__`` does."""
    kind = type(error).__name__
    try:
        lines = str(error).splitlines()
    except BaseException as broken:
        return f"{kind} (whose message can't be had: its __str__ raises {type(broken).__name__})"
    line = printable(next((line for line in lines if line.strip()), ""))
    return f"{kind}: {line}" if line else kind
