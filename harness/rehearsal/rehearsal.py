"""A script rehearsed: run in processes of their own until every fault has had its turn, then judged."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.errors import SubjectError, UsageError
from harness.files import one_line
from harness.rehearsal import rank_rules, resumption
from harness.rehearsal.faults import Fault
from harness.rehearsal.places import Script
from harness.rehearsal.policies import Row, table
from harness.rehearsal.processes import OUT_OF_TIME, PATIENCE, WITHOUT_A_WORD, Processes
from harness.rehearsal.program import Planned
from harness.rehearsal.record import Did, Run, Window
from harness.rehearsal.resuming import try_resuming
from harness.rehearsal.resumption import Resumption
from harness.rehearsal.rules import Finding, findings
from harness.rehearsal.windows import LEARNED_FROM


@dataclass
class Rehearsal:
    """What became of it.

    Attributes:
        runs: of the script, each with some of the faults; with several ranks, those of all of them.
        left: the faults that had no turn within the time.
        seconds: it took.
        half: the half precision that autocast was given; empty for the script's own.
        rank_sets: the same runs with several ranks, those together that trained together.
        resumption: a run that was killed and one from its checkpoint; ``None`` where that wasn't tried.
        left_out: faults that were not tried at all, or whose process ended without a word, with the reason.
    """

    script: Script
    runs: list[Run] = field(default_factory=list)
    left: Sequence[Planned] = ()
    seconds: float = 0.0
    half: str = ""
    rank_sets: list[list[Run]] = field(default_factory=list)
    resumption: Resumption | None = None
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def table(self) -> list[Row]:
        """What the script does."""
        return [*table(self.runs, self.half), *resumption.rows(self.resumption), *rank_rules.rows(self.rank_sets)]

    @property
    def findings(self) -> list[Finding]:
        """The rules that it broke, each once for a line and a fault."""
        all_found = [one for run in self.runs for one in findings(run, self.runs)]
        all_found += [one for runs in self.rank_sets for one in rank_rules.ranks_decide_alike(runs)]
        if self.resumption is not None:
            all_found += resumption.resume_goes_on(self.resumption)
        found = {(one.rule, one.where, one.fault): one for one in reversed(all_found)}
        return list(found.values())[::-1]

    @property
    def beginnings(self) -> str:
        """Whether its runs were forked from one, or else why not; empty where there was one alone, or nobody asked."""
        if len(self.runs) > 1 and all(run.forked for run in self.runs):
            return f"forked: all runs are forks of one, and have their first {LEARNED_FROM} windows in common"
        why = next((run.afresh for run in self.runs if run.afresh), "")
        return f"afresh: {why}" if len(self.runs) > 1 and why else ""

    @property
    def refused(self) -> dict[str, str]:
        """Faults that could not be put in anywhere, with the reason."""
        windows = [window for run in self.runs for window in run.windows if window.fault]
        tried = {window.fault for window in windows if not window.refused}
        return {**{w.fault: w.refused for w in windows if w.fault not in tried}, **self.left_out}


def rehearse(
    script: Script,
    faults: Sequence[Fault],
    *,
    pretend_cuda: bool,
    budget: float,
    told: Callable[[str], None] = lambda _: None,
    processes: Processes | None = None,
    half: str = "",
    ranks: int = 1,
    patience: float = PATIENCE,
    resume_with: str | None = None,
    fork: bool = False,
) -> Rehearsal:
    """Run the script until every fault has had its turn, or the time is over.

    Args:
        pretend_cuda: whether CUDA is pretended.
        budget: seconds for all of it.
        told: what it is at, in words.
        processes: that run the script; new ones by default.
        half: the half precision that autocast is to have, ``float16`` or ``bfloat16``; empty for the script's own.
        ranks: how many processes train together; each fault goes into one of them.
        patience: seconds after which one of them that is still at the same window waits in vain.
        resume_with: further arguments with which the script takes up its checkpoint after a kill; empty to see whether
            it does by itself; ``None`` to try no kill.
        fork: where a fork is as good as a start, run the script's beginning once, and fork it for each run with faults;
            but not for a kill, or with several ranks.

    Raises:
        UsageError: there is no such script, or a kill is asked for with several ranks.
        SubjectError: it raises by itself, ends too early, does nothing that looks like training, or needs what can't be
            pretended.
    """
    if script.path and not Path(script.path).is_file():
        raise UsageError(f"there is no script {one_line(script.path)}.")
    if ranks > 1 and resume_with:
        raise UsageError("a kill and a resume are tried with one process alone: leave out --ranks or --resume-with.")
    started = time.monotonic()

    def left() -> float:
        return budget - (time.monotonic() - started)

    with contextlib.nullcontext(processes) if processes is not None else Processes() as these:
        rehearsal = Rehearsal(script, half=half)
        each = _Each(these, script, pretend_cuda, half, ranks, patience, fork)
        try:
            _rehearse(rehearsal, each, faults, budget, left, told)
        finally:
            these.end_warm()
        if resume_with is not None and ranks == 1 and not rehearsal.left:
            told("a kill and a resume")
            rehearsal.resumption = try_resuming(these, script, rehearsal.runs, pretend_cuda, half, resume_with, left)
        rehearsal.seconds = time.monotonic() - started
        return rehearsal


@dataclass(frozen=True)
class _Each:
    """How the script is run."""

    processes: Processes
    script: Script
    pretend_cuda: bool
    half: str
    ranks: int
    patience: float
    fork: bool

    def run(self, planned: Sequence[Planned], seconds: float) -> tuple[list[Run], str]:
        """What was seen of each rank, and what they printed last."""
        if self.ranks == 1:
            run, words = self.processes.run(
                self.script, planned, self.pretend_cuda, seconds, half=self.half, fork=self.fork
            )
            return [run], words
        return self.processes.run_ranks(
            self.script, planned, self.pretend_cuda, seconds, self.ranks, half=self.half, patience=self.patience
        )


def _rehearse(
    rehearsal: Rehearsal,
    each: _Each,
    faults: Sequence[Fault],
    budget: float,
    left: Callable[[], float],
    told: Callable[[str], None],
) -> None:
    if each.ranks > 1 and Fault.NO_GRADIENT in faults:
        faults = [fault for fault in faults if fault is not Fault.NO_GRADIENT]
        rehearsal.left_out = {Fault.NO_GRADIENT.value: "on one rank alone it makes the others wait for its gradients"}
    waiting = _on_a_rank([Planned(fault) for fault in faults], each.ranks)
    widened = False
    lost: list[Planned] = []
    while waiting:
        if left() <= 0 and rehearsal.runs:
            break
        told(f"{len(waiting)} faults to go")
        runs, words = each.run(waiting, max(left(), 1.0))
        begun = _begun(runs, waiting)
        died = not begun and runs[0].ending == WITHOUT_A_WORD and len(runs[0].windows) >= LEARNED_FROM
        if died and (rehearsal.runs or len(waiting) > 1):
            # What it died of is told, and doesn't cost the others.
            rehearsal.left_out[waiting[0].fault.value] = WITHOUT_A_WORD.refusal
            lost.append(waiting[0])
            begun = 1
        elif begun:
            rehearsal.runs += runs
            if each.ranks > 1:
                rehearsal.rank_sets.append(runs)
        elif runs[0].ending == OUT_OF_TIME and rehearsal.runs:
            break
        else:
            raise SubjectError(_why_not(each.script, runs[0], words, budget))
        waiting = waiting[begun:]
        if not waiting and not widened:
            widened = True
            waiting = _on_a_rank(_other_places(faults, runs[0]), each.ranks)
    rehearsal.left = [*lost, *waiting]


def _on_a_rank(planned: Sequence[Planned], ranks: int) -> list[Planned]:
    """Each into one rank, in turn the last and the first: of those that look at their own batch, and at rank 0's."""
    if ranks == 1:
        return list(planned)
    return [replace(one, rank=0 if index % 2 else ranks - 1) for index, one in enumerate(planned)]


def _begun(runs: Sequence[Run], planned: Sequence[Planned]) -> int:
    """How many faults were put in. Where the ranks part, what comes after shows nothing more, and is forgotten."""
    parted = rank_rules.first_difference(runs) if len(runs) > 1 else None
    if parted is not None:
        for run in runs:
            del run.windows[parted + 1 :]
        return sum(bool(window.fault) for window in runs[0].windows)
    counts = [sum(bool(window.fault) for window in run.windows) for run in runs]
    begun = max(counts + [run.begun for run in runs])
    for run, count in zip(runs, counts, strict=True):
        if run.ending.stuck and count < begun:  # in a window that never ended
            run.windows.append(Window(planned[begun - 1].fault.value, over=True))
    return begun


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
    if not any(window.of(Did.OPTIMIZER_STEP, Did.SCALER_STEP) for window in run.windows):
        return (
            f"{script.words} ended without a step of a torch.optim.Optimizer: where a script moves its parameters "
            f"itself, nothing tells where a step begins and ends, and it can't be rehearsed."
        )
    return (
        f"{script.words} ended after {windows} windows, and a rehearsal needs {LEARNED_FROM} before the first fault: "
        f"let it train longer."
    )
