"""What came of each mutant: a line of JSON each, so that a run that was ended goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.files import read_toml
from tests.mutation.bench import Verdict
from tests.mutation.mutants import Mutant

Key = tuple[str, str, str, str]


def record(mutant: Mutant, verdict: Verdict) -> dict[str, Any]:
    """Plain values: the mutant without its code, and what came of it."""
    return {
        "file": mutant.file,
        "line": mutant.line,
        "function": mutant.function,
        "operator": mutant.operator,
        "removed": mutant.removed,
        "added": mutant.added,
        "outcome": verdict.outcome,
        "by": verdict.by,
        "seconds": round(verdict.seconds, 2),
        "cpu_seconds": round(verdict.cpu_seconds, 2),
    }


def key_of(found: Mapping[str, Any]) -> Key:
    """What names the mutant, as :attr:`Mutant.key`."""
    return found["file"], found["function"], found["removed"], found["added"]


def read_records(path: Path) -> dict[Key, dict[str, Any]]:
    """The last record of each mutant; empty where there is no file. A last line that a kill cut off is left out."""
    found: dict[Key, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            one = json.loads(line)
        except ValueError:
            continue
        found[key_of(one)] = one
    return found


def still_stands(found: Mapping[str, Any], sources: Mapping[str, str]) -> bool:
    """Whether the module is one of these, and still has the lines that the mutant differs in."""
    source = sources.get(found["file"])
    return source is not None and found["removed"] in "\n".join(line.strip() for line in source.splitlines())


def append(path: Path, found: Mapping[str, Any]) -> None:
    """Write one record, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        # A line that a kill cut off stays one of its own.
        file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
        torn = file.read() not in (b"", b"\n")
        file.write(("\n" * torn + json.dumps(found, ensure_ascii=False) + "\n").encode())


def read_equivalent(path: Path) -> dict[Key, str]:
    """Why each of these mutants can't be told from the module, or needn't be.

    Raises:
        UsageError: the file is no TOML.
        KeyError: an entry lacks something.
    """
    entries = read_toml(path).get("mutant", [])
    return {key_of(entry): entry["reason"] for entry in entries}
