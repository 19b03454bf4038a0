"""What a subject prints, on its way from a worker to whoever wants to see it."""

from __future__ import annotations

import codecs
import os
from collections import deque

from harness.errors import printable

# One reading takes no more, so that a subject that prints without end holds nothing up.
_MOST_READ = 2**20
_CHUNK = 2**16
LAST_LINES = 12
"""Of what was printed, so many are kept for the case that it ends in a crash."""
_LONGEST_LINE = 300


class SubjectOutput:
    """A pipe for the standard output and error of a process and of all that it starts.

    It is read without waiting. Of what was read the last lines are kept, and no more.

    Attributes:
        writing: the file descriptor of the end that is the process'.
    """

    def __init__(self) -> None:
        self._reading, self.writing = os.pipe()
        os.set_blocking(self._reading, False)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._begun = ""
        self.open = True

    def fileno(self) -> int:
        """Of the reading end, for whoever waits for it."""
        return self._reading

    def handed_over(self) -> None:
        """The process has its end: close ours of it, so that the pipe ends with the process."""
        os.close(self.writing)

    def read(self) -> str:
        """What was printed since, as far as it has come."""
        found = []
        for _ in range(_MOST_READ // _CHUNK):
            try:
                chunk = os.read(self._reading, _CHUNK) if self.open else b""
            except BlockingIOError:
                break
            if not chunk:
                self.open = False
                break
            found.append(self._decoder.decode(chunk))
        text = "".join(found)
        self._keep(text)
        return text

    def _keep(self, text: str) -> None:
        *whole, begun = (self._begun + text).split("\n")
        self._lines.extend(line for line in whole[-LAST_LINES:] if line.strip())
        self._begun = begun[-4 * _LONGEST_LINE :]

    def forget(self) -> None:
        """What was printed up to here is of no further interest."""
        self._lines.clear()
        self._begun = ""

    def last_lines(self) -> str:
        """The last lines that were printed, fit to be shown; empty where there are none."""
        lines = [*self._lines, *([self._begun] if self._begun.strip() else [])][-LAST_LINES:]
        # Of a line that was written over and over, as by a progress bar, what was to be seen last.
        seen = [line.rstrip("\r").rpartition("\r")[2] for line in lines]
        return "\n".join(printable(line, _LONGEST_LINE) for line in seen)

    def close(self) -> None:
        """Let go of it."""
        if self._reading >= 0:
            os.close(self._reading)
        self._reading, self.open = -1, False
