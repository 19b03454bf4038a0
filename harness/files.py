"""Files: read within limits, and written so that they are whole or absent.

Reading takes regular files alone (a pipe would hang, a device never end) up to a stated size, and says what is wrong in
one line.  Links are followed: who may place a link in a folder may place the file itself.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import UsageError, printable

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LARGEST_TEXT = 2**22
"""Bytes of a text file; a value of JSON takes up to 100 times its text in memory."""
LONGEST_NAME = 1000
"""Characters of a path, or of a name in a file."""
DEEPEST = 64
"""Lists and tables in each other."""
LONGEST_LINE = 10_000
"""Characters in a line of TOML: the parser takes quadratic time in the dots of a key."""
LARGEST_INTEGER = 2**64


def is_name(text: str) -> bool:
    """Whether the text may name a subject, a file or the like: no longer than any path, without control characters."""
    return len(text) <= LONGEST_NAME and not any(c < " " or c == "\x7f" for c in text)


def one_line(text: str, limit: int = 1000) -> str:
    """``text`` fit to stand in a message: on one line, cut to ``limit`` characters."""
    return printable(text, limit).replace("\n", "�").replace("\t", " ")


def shown(value: Any) -> str:
    """A value from a file as a message shows it."""
    try:
        return one_line(repr(value), 80)
    except (ValueError, RecursionError):  # a whole number of thousands of digits; an endless nest
        return f"a {type(value).__name__} that is too large to show"


def read_bytes(path: Path, limit: int) -> bytes:
    """The whole of a regular file of at most ``limit`` bytes.

    Raises:
        UsageError: there is none, it is something else, too large, or can't be read.
    """
    try:
        # Without O_NONBLOCK, opening a pipe waits for whoever writes into it.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise UsageError(f"{one_line(str(path))} can't be read: it is no regular file.")
            if status.st_size > limit:
                raise UsageError(f"{one_line(str(path))} has {status.st_size} bytes, but at most {limit} are read.")
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:  # ValueError: a path that no file can have
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no file has such a name"
        raise UsageError(f"{one_line(str(path))} can't be read: {reason}.") from error
    if len(data) > limit:
        raise UsageError(f"{one_line(str(path))} has more than {limit} bytes, which is the most that is read.")
    return data


def read_text(path: Path, limit: int = LARGEST_TEXT) -> str:
    """A text file's content.

    Raises:
        UsageError: as :func:`read_bytes`; it is not UTF-8.
    """
    try:
        return read_bytes(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{one_line(str(path))} is not UTF-8 text: byte {error.start} is wrong.") from error


def read_json(path: Path, limit: int = LARGEST_TEXT) -> Any:
    """A JSON file's value: no key twice, no NaN, no integer or nesting beyond the limits, no text that is no text.

    Raises:
        UsageError: as :func:`read_text`; it is not such JSON.
    """
    text = read_text(path, limit)
    try:
        value = json.loads(
            text, object_pairs_hook=_once, parse_int=_integer, parse_float=_number, parse_constant=_number
        )
        refuse_hostile(value)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{one_line(str(path))} is not valid JSON: {_reason(error)}.") from error
    return value


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file's table; what is in it is left to :func:`refuse_hostile`.

    Raises:
        UsageError: as :func:`read_text`; it is not TOML, or a line of it is longer than :data:`LONGEST_LINE`.
    """
    text = read_text(path)
    if max(map(len, text.splitlines()), default=0) > LONGEST_LINE:
        raise UsageError(f"{one_line(str(path))} has a line of more than {LONGEST_LINE} characters: break it.")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{one_line(str(path))} is not valid TOML: {_reason(error)}.") from error


def refuse_hostile(value: Any) -> None:
    """Let pass tables, lists, text, finite numbers within the limits, yes or no, and nothing.

    Raises:
        ValueError: there is something else in it, at any depth.
    """
    pending = [(value, 1)]
    while pending:
        item, depth = pending.pop()
        if depth > DEEPEST:
            raise ValueError(f"lists or tables are nested more than {DEEPEST} deep")
        if isinstance(item, dict):
            pending += [(inner, depth + 1) for pair in item.items() for inner in pair]
        elif isinstance(item, list):
            pending += [(inner, depth + 1) for inner in item]
        elif isinstance(item, str):
            if "\0" in item or any("\ud800" <= c <= "\udfff" for c in item):
                raise ValueError(f"the text {shown(item)} has a character that no text has")
        elif isinstance(item, (datetime.date, datetime.time)):
            raise ValueError(f"{item} is a date or time, which nothing here takes")
        elif isinstance(item, int) and abs(item) > LARGEST_INTEGER:
            raise ValueError("a whole number is beyond 64 bits")
        elif isinstance(item, float) and not math.isfinite(item):
            raise ValueError(f"a number is {item}, which is not finite")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {shown(twice)} is given twice")
    return table


def _integer(text: str) -> int:
    if len(text) > 25:
        raise ValueError("a whole number is beyond 64 bits")
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"a number is {one_line(text, 20)}, which is not finite")
    return number


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return f"lists or tables are nested more than {DEEPEST} deep"
    return one_line(str(error), 300).rstrip(".")


def json_value(value: Any) -> Any:
    """``value`` with what JSON can't hold as text: NaN, inf and −inf, also in lists, tuples and mappings."""
    if isinstance(value, Mapping):
        return {key: json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def json_line(value: Any) -> str:
    """``value`` as one line of JSON, without its end; what JSON can't hold as :func:`json_value` has it.

    Raises:
        TypeError: something in it is no value of JSON.
    """
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):  # another mapping than a dict is the first
        return json.dumps(json_value(value), allow_nan=False)


def write_atomically(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` in one move; a reader, or a kill, never meets a part of it.

    Raises:
        OSError: the folder can't be made or written.
    """
    with move_into_place(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def move_into_place(path: Path) -> Iterator[Path]:
    """Give a file beside ``path`` to write, and move it there at the end; an exception leaves ``path`` as it was.

    Raises:
        OSError: the folder can't be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    try:
        yield Path(name)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
