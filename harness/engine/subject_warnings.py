"""The Python warnings that a subject raises in a worker, counted instead of repeated."""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from harness.engine.events import SubjectWarned, SubjectWarning
from harness.errors import describe_exception, printable
from harness.files import one_line

MOST_DIFFERENT = 100
"""Warnings that are told apart; further ones are counted together."""
OTHERS = SubjectWarning("Warning", "further warnings, each in other words", "")
_LONGEST = 300


class SubjectWarnings:
    """Counts the warnings of this process. Those of one place that differ in numbers alone are one.

    What is counted is printed as well, as it comes.
    """

    def __init__(self) -> None:
        # A warning may be raised while another is counted, by what is collected just then.
        self._lock = threading.RLock()
        self._first: dict[tuple[str, str, str], SubjectWarning] = {}
        self._untold: Counter[SubjectWarning] = Counter()
        self._has_new = False

    def install(self) -> None:
        """Count from now on, every time, whatever Python's filters don't take out."""
        # At the end: what a user's -W, and Python's own filters, say comes first.
        warnings.simplefilter("always", append=True)
        show = warnings.showwarning

        def count(
            message: Warning | str, category: type[Warning], filename: str, lineno: int, *more: Any, **named: Any
        ) -> None:
            self._count(message, category, filename, lineno)
            show(message, category, filename, lineno, *more, **named)

        warnings.showwarning = count

    def _count(self, message: Warning | str, category: type[Warning], filename: str, lineno: int) -> None:
        try:
            words = str(message)
        except Exception as error:
            words = f"(its words can't be had: {describe_exception(error)})"
        where = f"{'/'.join(Path(filename).parts[-2:])}:{lineno}"
        name, words = category.__name__, one_line(" ".join(words.split()), _LONGEST)
        with self._lock:
            raised = SubjectWarning(name, words, printable(where, _LONGEST))
            if raised.key not in self._first and len(self._first) >= MOST_DIFFERENT:
                raised = OTHERS
            self._has_new = self._has_new or raised.key not in self._first
            self._untold[self._first.setdefault(raised.key, raised)] += 1

    @property
    def has_new(self) -> bool:
        """Whether one was raised, since :meth:`taken` was called, that hadn't been before."""
        return self._has_new

    def taken(self) -> SubjectWarned | None:
        """What was raised since this was called last, or ``None``."""
        with self._lock:
            told, self._untold, self._has_new = self._untold, Counter(), False
        return SubjectWarned(tuple(told.items())) if told else None
