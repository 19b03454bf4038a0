"""A reader of files: a good set of files, a way to spoil them, and the command that reads them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.mutated_files import hostile_values, mutations


@dataclass(frozen=True)
class Reader:
    """Files in a folder of their own.

    Attributes:
        share: of a campaign, in mutants.
        write: makes the good files in the folder.
        spoil: mutates one of them.
        run: reads them by the command that does; the exit code.
        good: the exit code for the good files.
        verdicts: the command may also come to a verdict (exit 1) on files that the folder's own readers accept.
    """

    name: str
    share: float
    write: Callable[[Path], None]
    spoil: Callable[[Path, random.Random], None]
    run: Callable[[Path], int]
    verdicts: Callable[[Path], bool] = lambda folder: False
    good: int = 0


def spoiling(
    name: str, mutated: Callable[[bytes, random.Random], bytes], in_place: float = 0.04
) -> Callable[[Path, random.Random], None]:
    def spoil(folder: Path, rng: random.Random) -> None:
        path = folder / name
        if rng.random() < in_place:
            mutations.in_place_of_a_file(path, rng)
        else:
            path.write_bytes(mutated(path.read_bytes(), rng))

    return spoil


def json_mutant(data: bytes, rng: random.Random) -> bytes:
    return mutations.mutated_json(json.loads(data), rng)


def toml_mutant(data: bytes, rng: random.Random) -> bytes:
    return mutations.mutated_lines(data.decode(), hostile_values.TOML, "=", rng)


def yaml_mutant(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.03:
        return hostile_values.LAUGHS.encode() + rng.choice((b"", b"model: *a39\n", b"training: {<<: *a39}\n")) + data
    return mutations.mutated_lines(data.decode(), hostile_values.YAML, ":", rng)
