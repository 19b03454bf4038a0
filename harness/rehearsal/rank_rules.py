"""Whether processes that train together decide alike when one of them meets a bad batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Any

from harness.rehearsal.record import Call, Did, Run, Window
from harness.rehearsal.rules import Finding

RULE = "ranks-decide-alike"
_DECISIONS = (Did.BACKWARD, Did.UNSCALE, Did.SCALER_STEP, Did.OPTIMIZER_STEP, Did.UPDATE, Did.SCHEDULE)


def ranks_decide_alike(runs: Sequence[Run]) -> Iterator[Finding]:
    """Ranks that train together step, skip, and change their scale and their rates together, and none waits for ever
    for another.
    """
    index = first_difference(runs)
    stuck = [run for run in runs if run.ending.stuck]
    if any(run.ending.raised for run in runs) and index is None:
        return  # and that says why the others wait
    if index is None and not stuck:
        return
    fault = _fault(runs, len(runs[0].windows) - 1 if index is None else index)
    if index is not None:
        yield _of_window(runs, index, fault)
    elif stuck:
        at = ", ".join(f"rank {run.rank} at {run.ending.stuck}" for run in stuck)
        line = stuck[0].ending.stuck
        yield Finding(RULE, f"{line}: waits for ever for another rank ({at})", line, fault)


def first_difference(runs: Sequence[Run]) -> int | None:
    """The first window, by its index, in which the ranks part; ``None`` where they don't.

    Parameters that differ from the beginning, as where each rank holds a part of the model, are no parting.
    """
    windows = list(zip(*[run.windows for run in runs], strict=False))
    compared = [what for name, what in _COMPARED.items() if name != "the parameters" or not _apart_at_once(windows)]
    for index, those in enumerate(windows):
        if not any(w.over for w in those) and any(len({repr(what(w)) for w in those}) > 1 for what in compared):
            return index
    return None


def rows(rank_sets: Sequence[Sequence[Run]]) -> list[tuple[str, str]]:
    """What the table says of the ranks."""
    if not rank_sets:
        return []
    first = rank_sets[0]
    apart = _apart_at_once(list(zip(*[run.windows for run in first], strict=False)))
    parted = [w.fault for runs in rank_sets for w in _parted(runs)]
    decide = f"part: {', '.join(dict.fromkeys(filter(None, parted)))}" if parted else "alike"
    return [
        ("ranks", str(len(first))),
        ("parameters of the ranks", "differ from the beginning" if apart else "are the same"),
        ("decisions of the ranks", decide),
    ]


def _parted(runs: Sequence[Run]) -> list[Window]:
    index = first_difference(runs)
    if index is None:
        return [run.windows[-1] for run in runs if run.ending.stuck and run.windows][:1]
    fault = _fault(runs, index)
    return [Window(fault)] if fault else [runs[0].windows[index]]


_COMPARED: dict[str, Callable[[Window], Any]] = {
    "whether they step": lambda w: w.moved,
    "the scale": lambda w: w.scale,
    "the learning rate": lambda w: w.rates,
    "the parameters": lambda w: w.state.get("end"),
}


def _apart_at_once(windows: Sequence[Sequence[Window]]) -> bool:
    return bool(windows) and len({repr(w.state.get("end")) for w in windows[0]}) > 1


def _fault(runs: Sequence[Run], index: int) -> str:
    """That of the window, or of the last before it."""
    return next((w.fault for w in reversed(runs[0].windows[: index + 1]) if w.fault), "")


def _of_window(runs: Sequence[Run], index: int, fault: str) -> Finding:
    windows = [run.windows[index] for run in runs]
    names = [name for name, what in _COMPARED.items() if len({repr(what(w)) for w in windows}) > 1]
    # A rate that was changed at the end of a window shows in the next.
    for those in ([run.windows[index - 1] for run in runs] if index else windows, windows):
        for other in range(1, len(runs)):
            for a, b in zip_longest(those[0].of(*_DECISIONS), those[other].of(*_DECISIONS)):
                if a is None or b is None or (a.did, a.where) != (b.did, b.where):
                    return Finding(RULE, *_parting(a, b, other, names), fault)
    line = next((c.where for w in windows for c in w.of(Did.OPTIMIZER_STEP, Did.SCALER_STEP)), "")
    values = ", ".join(f"{_shown(_COMPARED[names[0]](w))} on rank {rank}" for rank, w in enumerate(windows))
    told = "the parameters of the ranks differ" if names[0] == "the parameters" else f"{names[0]} differs: {values}"
    return Finding(RULE, f"{line}: {told} from here on", line, fault)


def _parting(a: Call | None, b: Call | None, other: int, names: Sequence[str]) -> tuple[str, str]:
    """The sentence and its line: that of the call which one of the two makes alone, the earlier of both."""
    differ = f"; what differs then: {', '.join(names)}" if names else ""
    # Where each makes another call, one has left out what the other does: a step comes before what follows it.
    earlier = a is not None and (b is None or _DECISIONS.index(a.did) <= _DECISIONS.index(b.did))
    first = a if earlier else b
    assert first is not None
    does, leaves = (0, other) if first is a else (other, 0)
    return f"{first.where}: rank {does} calls {first.did.value}, and rank {leaves} does not{differ}", first.where


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
