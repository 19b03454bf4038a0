"""How fast the harness itself is: whole commands, each in a process of its own, one after the other."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.files import one_line
from harness.subjects.known_bad import KNOWN_BAD

_FAULT = "FAULT "
_LAST_LINES = 20


@dataclass(frozen=True)
class Command:
    """What is timed.

    Attributes:
        name: as tables tell it.
        arguments: of ``harness``; ``{seed}`` stands for the seed.
        until: the time is that of the first line on the screen that begins so; empty: that of the end.
        exit_codes: how it may end.
    """

    name: str
    arguments: tuple[str, ...]
    until: str = ""
    exit_codes: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class CommandTime:
    """How long a command took: each run in seconds."""

    command: Command
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of the runs."""
        return statistics.median(self.seconds)


def commands(loss: str) -> tuple[Command, ...]:
    """The figures that the project watches.

    Args:
        loss: a right one, by its spec.
    """
    bad = KNOWN_BAD[0].spec
    seeded = ("--seed", "{seed}")
    small = ("--property", "finite", "--precision", "float32", "--max-examples", "1")
    return (
        Command("the smallest check", ("check", "--loss", loss, *small)),
        Command("first fault of a known-bad loss", ("check", "--loss", bad, "-x", *seeded), _FAULT, (1,)),
        Command("a known-bad loss convicted, all cells", ("check", "--loss", bad, *seeded), exit_codes=(1,)),
        Command("the default check", ("check", *seeded)),
    )


def timed_commands(
    chosen: Sequence[Command], runs: int, told: Callable[[Command, float], None] = lambda command, seconds: None
) -> Iterator[CommandTime]:
    """Each command so many times, with seeds from 0 up. Case files go to a folder of their own.

    Raises:
        HarnessError: a command ended as it shouldn't, or never said what was waited for.
    """
    for command in chosen:
        seconds = []
        for seed in range(runs):
            seconds.append(_took(command, seed))
            told(command, seconds[-1])
        yield CommandTime(command, tuple(seconds))


def _took(command: Command, seed: int) -> float:
    arguments = [text.format(seed=seed) for text in command.arguments]
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "harness", *arguments, "--cases-dir", str(Path(folder) / "cases")],
            stdout=subprocess.PIPE,
            # What goes on is told on stderr, and a screen shows both.
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        said: float | None = None
        last: deque[str] = deque(maxlen=_LAST_LINES)
        with process.stdout as lines:
            for line in lines:
                if command.until and said is None and line.startswith(command.until):
                    said = time.monotonic() - began
                last.append(line)
        code = process.wait()
        ended = time.monotonic() - began
        if code not in command.exit_codes:
            raise HarnessError(
                f"harness {' '.join(arguments)} ended with exit code {code}, so it can't be timed: "
                f"{one_line(''.join(last).strip()) or 'see what it prints'}."
            )
    if not command.until:
        return ended
    if said is None:
        raise HarnessError(f"harness {' '.join(arguments)} printed no line that begins with {command.until!r}.")
    return said
