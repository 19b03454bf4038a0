"""What a command does where it can't go on: one line on the screen, and the code that says why."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path

from harness import __version__
from harness.config import Settings, load_settings
from harness.errors import ExitCode, HarnessError, Interrupted, printable

# Of the place and the permission, not of the harness.
_USERS_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def exit_code_of(error: BaseException, options: argparse.Namespace) -> int:
    """Say on the screen what ended the command, and give its exit code; of a failure of the harness, the traceback goes
    to a file.
    """
    if isinstance(error, HarnessError):
        say(str(error))
        return int(error.exit_code)
    if isinstance(error, Interrupted):
        say("interrupted")
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        # Taking torch down in order would take longer than all else; nothing is left to be done.
        os._exit(error.exit_code)
    if isinstance(error, KeyboardInterrupt):
        say("interrupted")
        return Interrupted(2).exit_code
    if isinstance(error, BrokenPipeError):
        # Whoever read the output has left, as ``| head`` does. Nothing more is to be written at exit either.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    if isinstance(error, OSError) and (error.filename or error.errno in _USERS_ERRORS):
        say(f"{error.filename or ''} {error.strerror or error}".strip())
        return int(ExitCode.USAGE)
    if not isinstance(error, Exception):
        raise error
    where = _keep_traceback(error, options)
    say(f"the harness itself failed ({type(error).__name__}); please report it with the file {where}")
    return int(ExitCode.HARNESS)


def say(message: str) -> None:
    """One message to the screen, whatever it is made of."""
    with contextlib.suppress(OSError, ValueError):
        print(f"harness: {printable(message)}", file=sys.stderr, flush=True)


def _keep_traceback(error: Exception, options: argparse.Namespace) -> Path | str:
    text = "\n".join(
        [
            f"harness {__version__}, Python {platform.python_version()}, {platform.platform()}",
            f"arguments: {sys.argv[1:]}",
            "",
            *traceback.format_exception(error),
        ]
    )
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for folder in (_cases_dir(options).parent / "failures", Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / name
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
            return path
    return f"that could not be written: {error}"


def _cases_dir(options: argparse.Namespace) -> Path:
    """Where this command keeps cases, as far as that can be told now."""
    try:
        return Path(load_settings({"cases_dir": getattr(options, "cases_dir", None)}).cases_dir)
    except Exception:
        return Path(Settings().cases_dir)
