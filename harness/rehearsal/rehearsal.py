"""A script rehearsed: run in processes of their own until every fault has had its turn, then judged."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import SubjectError, UsageError
from harness.files import one_line
from harness.rehearsal.faults import Fault
from harness.rehearsal.places import Script
from harness.rehearsal.policies import Row, table
from harness.rehearsal.processes import OUT_OF_TIME, Processes
from harness.rehearsal.program import Planned
from harness.rehearsal.record import Did, Run
from harness.rehearsal.rules import Finding, findings
from harness.rehearsal.windows import LEARNED_FROM


@dataclass
class Rehearsal:
    """What became of it.

    Attributes:
        runs: of the script, each with some of the faults.
        left: the faults that had no turn within the time.
        seconds: it took.
    """

    script: Script
    runs: list[Run] = field(default_factory=list)
    left: Sequence[Planned] = ()
    seconds: float = 0.0

    @property
    def table(self) -> list[Row]:
        """What the script does."""
        return table(self.runs)

    @property
    def findings(self) -> list[Finding]:
        """The rules that it broke, each once for a line and a fault."""
        found = {(one.rule, one.where, one.fault): one for run in reversed(self.runs) for one in findings(run)}
        return list(found.values())

    @property
    def refused(self) -> dict[str, str]:
        """Faults that could not be put in anywhere, with the reason."""
        windows = [window for run in self.runs for window in run.windows if window.fault]
        tried = {window.fault for window in windows if not window.refused}
        return {window.fault: window.refused for window in windows if window.fault not in tried}


def rehearse(
    script: Script,
    faults: Sequence[Fault],
    *,
    pretend_cuda: bool,
    budget: float,
    told: Callable[[str], None] = lambda _: None,
    processes: Processes | None = None,
) -> Rehearsal:
    """Run the script until every fault has had its turn, or the time is over.

    Args:
        pretend_cuda: whether CUDA is pretended.
        budget: seconds for all of it.
        told: what it is at, in words.
        processes: that run the script; new ones by default.

    Raises:
        UsageError: there is no such script.
        SubjectError: it raises by itself, ends too early, does nothing that looks like training, or needs what can't be
            pretended.
    """
    if script.path and not Path(script.path).is_file():
        raise UsageError(f"there is no script {one_line(script.path)}.")
    with contextlib.nullcontext(processes) if processes is not None else Processes() as these:
        return _rehearse(Rehearsal(script), faults, pretend_cuda, budget, told, these)


def _rehearse(
    rehearsal: Rehearsal,
    faults: Sequence[Fault],
    pretend_cuda: bool,
    budget: float,
    told: Callable[[str], None],
    processes: Processes,
) -> Rehearsal:
    script, started = rehearsal.script, time.monotonic()
    waiting = [Planned(fault) for fault in faults]
    widened = False
    while waiting:
        left = budget - (time.monotonic() - started)
        if left <= 0 and rehearsal.runs:
            break
        told(f"{len(waiting)} faults to go")
        run, words = processes.run(script, waiting, pretend_cuda, max(left, 1.0))
        begun = sum(bool(window.fault) for window in run.windows)
        if not begun:
            if run.ending == OUT_OF_TIME and rehearsal.runs:
                break
            raise SubjectError(_why_not(script, run, words, budget))
        rehearsal.runs.append(run)
        waiting = waiting[begun:]
        if not waiting and not widened:
            widened = True
            waiting = _other_places(faults, run)
    rehearsal.left, rehearsal.seconds = waiting, time.monotonic() - started
    return rehearsal


def _other_places(faults: Sequence[Fault], run: Run) -> list[Planned]:
    """The faults in the other micro-steps of a window that has several."""
    micro_steps = max((w.backwards for w in run.windows if not w.fault), default=1)
    places = ["first"] if micro_steps > 1 else []
    return [Planned(fault, place) for place in places + (["middle"] if micro_steps > 2 else []) for fault in faults]


def _why_not(script: Script, run: Run, words: str, budget: float) -> str:
    """Why no fault could be put into the script."""
    ending, windows = run.ending, len(run.windows)
    if ending == OUT_OF_TIME:
        return (
            f"{script.words}: {windows} windows within {budget:g} s, and a rehearsal needs {LEARNED_FROM} before the "
            f"first fault: give it less to do (a smaller model, less data), or more time with --budget."
        )
    if ending.refusal:
        # What can't be pretended says its line itself, which may be a library's.
        at = f"{ending.where}: " if ending.where and ending.where.replace(":", ", line ") not in ending.refusal else ""
        return f"{script.words} can't be rehearsed: {at}{ending.refusal}\n{words}".rstrip()
    if ending.raised:
        return f"{script.words} raises by itself, without a fault: {ending.where}: {ending.raised}\n{words}".rstrip()
    if not any(window.of(Did.BACKWARD) for window in run.windows):
        return (
            f"{script.words} ended without a backward pass of a module in training mode: is this the training script?"
        )
    return (
        f"{script.words} ended after {windows} windows, and a rehearsal needs {LEARNED_FROM} before the first fault: "
        f"let it train longer."
    )
