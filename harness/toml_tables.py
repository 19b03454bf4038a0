"""Tables of a TOML file, taken or refused with the place that is wrong."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from harness.errors import UsageError, unknown_name
from harness.files import is_name, one_line, read_toml, refuse_hostile, shown

MOST_ROWS = 10_000
LONGEST_TEXT = 300


def read_document(path: Path, what: str) -> dict[str, Any]:
    """The whole file; ``what`` it is to be, for the sentence where it is missing.

    Raises:
        UsageError: it is missing, malformed, or has texts that no terminal should be shown.
    """
    where = one_line(str(path))
    if not os.path.lexists(path):
        raise UsageError(f"there is no {what} {where}.")
    document = read_toml(path)
    try:
        refuse_hostile(document)
    except ValueError as error:
        raise UsageError(f"{where}: {error}.") from None
    return document


def rows(document: Mapping[str, Any], key: str, where: str) -> list[tuple[dict[str, Any], str]]:
    """Each table under ``[[key]]``, with where it is for a message: by its name, or else its number."""
    found = document.get(key, [])
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise UsageError(f"{where}: {key} must be a list of tables, each under [[{key}]].")
    if len(found) > MOST_ROWS:
        raise UsageError(f"{where} has {len(found)} entries of {key}, but at most {MOST_ROWS} are taken.")
    told = (f"{where}: {key} {shown(row.get('name', f'number {number}'))}" for number, row in enumerate(found, 1))
    return list(zip(found, told, strict=True))


def text(row: Mapping[str, Any], key: str, where: str) -> str:
    """The text under a key that must be there, fit to stand in a table."""
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{where}: {key} must be text, not {shown(value)}.")
    if not is_name(value) or len(value) > LONGEST_TEXT:
        raise UsageError(f"{where}: {key} must be one line of at most {LONGEST_TEXT} characters, not {shown(value)}.")
    return value


def texts(row: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    """The texts of a list, which may be missing."""
    values = row.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UsageError(f"{where}: {key} must be a list of texts, not {shown(values)}.")
    return tuple(values)


def one_of(what: str, name: Any, known: Collection[str], where: str) -> str:
    """The name, where it is known."""
    if not isinstance(name, str) or name not in known:
        raise UsageError(f"{where}: {unknown_name(what, one_line(str(name), 80), known)}")
    return name


def only_keys(table: Mapping[str, Any], keys: set[str], where: str) -> None:
    """Refuse a key that isn't among these."""
    for key in table:
        if key not in keys:
            raise UsageError(f"{where} has the unknown key {shown(key)}; known are {', '.join(sorted(keys))}.")
