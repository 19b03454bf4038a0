"""Kills a run of the script after a checkpoint, and starts it again as its user would."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace

from harness.rehearsal.faults import Fault
from harness.rehearsal.places import Script
from harness.rehearsal.processes import Processes
from harness.rehearsal.program import Planned
from harness.rehearsal.record import Run
from harness.rehearsal.resumption import CHECKPOINT, Resumption, saved_last

_SKIPPED = (Fault.NAN_GRADIENT, Fault.INF_GRADIENT, Fault.NAN_OUTPUT, Fault.OVERFLOWING_GRADIENT)


def try_resuming(
    processes: Processes,
    script: Script,
    runs: Sequence[Run],
    pretend_cuda: bool,
    half: str,
    resume_with: str,
    left: Callable[[], float],
) -> Resumption | None:
    """A run that is killed after a checkpoint, and one from it.

    Args:
        runs: of the same script, for what it does with faults, and whether it saves anything.
        resume_with: arguments that are added to the script's own; :data:`CHECKPOINT` in them is the file.
        left: the seconds that are left.

    Returns:
        ``None`` where the script saves no optimizer's state, and nobody said that it does; or where the time is over.
    """
    asked = bool(resume_with)
    if not asked and not any(True for run in runs for _ in run.saves()):
        return None
    killed = Run()
    for planned in _first_faults(runs):
        if left() <= 0:
            return Resumption(killed, None, asked, "the time was over") if asked else None
        killed, _ = processes.run(script, planned, pretend_cuda, max(left(), 1.0), half=half, until="saved")
        if killed.ending.done:
            break
    file, _ = saved_last(killed)
    if not killed.ending.done:
        return Resumption(killed, None, asked) if asked else None
    if CHECKPOINT in resume_with and not file:
        return Resumption(killed, None, asked, "the checkpoint was saved to no file that has a name")
    if left() <= 0:
        return Resumption(killed, None, asked, "the time was over") if asked else None
    # Split before the file's name is put in, which may have spaces.
    more = [word.replace(CHECKPOINT, file) for word in shlex.split(resume_with)]
    again = replace(script, arguments=(*script.arguments, *more))
    resumed, _ = processes.run(again, (), pretend_cuda, max(left(), 1.0), half=half, until="resumed")
    return Resumption(killed, resumed, asked)


def _first_faults(runs: Sequence[Run]) -> list[list[Planned]]:
    """What is tried first, so that the scaler's scale is another than at the beginning; then nothing."""
    if not any(run.scaler for run in runs):
        return [[]]
    for fault in _SKIPPED:
        for run in runs:
            pairs = zip(run.windows, run.windows[1:], strict=False)
            if any(w.fault == fault.value and w.scale and b.scale and w.scale < b.scale for b, w in pairs):
                return [[Planned(fault)], []]
    return [[Planned(Fault.NAN_GRADIENT)], []] if not any(w.fault for run in runs for w in run.windows) else [[]]
