"""What a script does: its policies, as a table of questions and answers, found out from its runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from harness.rehearsal.faults import Fault
from harness.rehearsal.record import Did, Run, Window
from harness.rehearsal.rules import goes_by_updates, set_by_hand

Row = tuple[str, str]
_ALIKE = 1e-3  # of a norm: what a clip in float32 leaves


def table(runs: Sequence[Run], half: str = "") -> list[Row]:
    """The answers, from all windows of all runs.

    Args:
        half: the half precision that autocast was given in place of the script's; empty for none.
    """
    good = [w for run in runs for w in run.windows[1:] if not w.fault and not w.over]
    if not good:
        return []
    scaler = any(run.scaler for run in runs)
    plain = good[0]
    rows = [
        ("autocast", _autocast(runs, half)),
        ("a gradient scaler", "on" if scaler else "none, or off"),
        ("backward passes in a window", str(plain.backwards)),
        ("optimizers", str(max(len(w.moved) for w in good))),
        ("gradients", _clipping(good)),
    ]
    rows += [
        ("a NaN loss", _on(runs, Fault.NAN_OUTPUT)),
        ("an infinite loss", _on(runs, Fault.INF_OUTPUT)),
        ("gradients that overflow half precision", _on(runs, Fault.OVERFLOWING_GRADIENT)),
        ("NaN in one group's gradients", _on(runs, Fault.NAN_GRADIENT)),
        ("infinity in one group's gradients", _on(runs, Fault.INF_GRADIENT)),
        ("a huge, finite norm", _on(runs, Fault.HUGE_NORM)),
        ("no gradients at all", _on(runs, Fault.NO_GRADIENT)),
        ("an output that explodes", _on(runs, Fault.EXPLODING_OUTPUT)),
        ("a NaN in the batch", _on(runs, Fault.NAN_INPUT)),
    ]
    skipped = [w for w in _faulty(runs) if w.moved and not any(w.moved) and not _had_nothing_to_move_by(w)]
    rows.append(("the schedule on a skipped step", _schedule(good, skipped, runs)))
    rows.append(("counters on a skipped step", _counters(good, skipped)))
    # A frozen copy of the model, a teacher's, say, is none.
    if any(w.averages for w in good):
        rows.append(("running averages on a skipped step", _advances(any(w.averages for w in skipped), bool(skipped))))
    if any(w.buffers_finite is not None for w in good):
        spoilt = [w.fault for w in _faulty(runs) if w.buffers_finite is False]
        rows.append(("the model's buffers after a fault", f"not finite: {spoilt[0]}" if spoilt else "stay finite"))
    saves = [save for run in runs for save in run.saves()]
    if saves:
        with_scaler = all(whole for _, whole in saves)
        rows.append(("the scaler in a checkpoint", "saved" if with_scaler else "not saved") if scaler else ("", ""))
    return [row for row in rows if row[0] and row[1]]


def _autocast(runs: Sequence[Run], half: str) -> str:
    asked = " and ".join(sorted({name for run in runs for w in run.windows for name in w.halves}))
    if not asked:
        return "not to a half precision"
    return asked if half in ("", asked) else f"{half}, where the script asks for {asked}"


def _had_nothing_to_move_by(window: Window) -> bool:
    """A step was made, without gradients: that is no skip."""
    return any(call.finite is None for call in window.of(Did.OPTIMIZER_STEP))


def _faulty(runs: Iterable[Run]) -> list[Window]:
    return [w for run in runs for w in run.windows if w.fault and not w.refused and not w.over]


def _clipping(good: Sequence[Window]) -> str:
    clips = [call for w in good for call in w.of(Did.CLIP)]
    if not clips:
        return _clipped_by_hand(good)
    by, limit = clips[0].notes.get("by", "norm"), clips[0].limit
    return f"are clipped to a {by} of {limit:g}" + ("" if limit else ": all are zeroed")


def _clipped_by_hand(good: Sequence[Window]) -> str:
    """Steps whose gradients have the same norm, and none with a larger one."""
    norms = sorted(c.value for w in good for c in w.of(Did.OPTIMIZER_STEP) if c.value is not None)
    largest = norms[-1] if norms else 0.0
    alike = sum(norm > largest * (1 - _ALIKE) for norm in norms)
    return f"are scaled to a norm of at most {largest:.3g}" if alike >= max(3, len(norms) // 10) else "no clip was seen"


def _on(runs: Sequence[Run], fault: Fault) -> str:
    """What a window with the fault does; empty where none was run."""
    for run in runs:
        for index, window in enumerate(run.windows):
            if window.fault == fault.value and not window.refused:
                return _outcome(run, index)
    return ""


def _outcome(run: Run, index: int) -> str:
    window = run.windows[index]
    if window.over and run.ending.stuck:
        return "waits for ever for another rank"
    if window.over and run.ending.raised:
        return f"raises {run.ending.raised.partition(':')[0]}"
    if not window.finite:
        return "poisons the parameters"
    if any(window.moved):
        return "steps" if all(window.moved) else "one optimizer steps, another doesn't"
    if window.of(Did.SCALER_STEP):
        return "the scaler skips the step"
    return "takes a step that moves nothing" if window.of(Did.OPTIMIZER_STEP) else "drops the window"


def _schedule(good: Sequence[Window], skipped: Sequence[Window], runs: Sequence[Run]) -> str:
    if any(w.of(Did.SCHEDULE) for w in good):
        if not goes_by_updates(good):
            return "steps now and then, not with each update"
        return _advances(any(w.of(Did.SCHEDULE) for w in skipped), bool(skipped))
    by_hand = [run for run in runs if set_by_hand(run)]
    if not by_hand:
        return "none"
    pairs = [
        (w.rates, run.windows[i + 1].rates)
        for run in by_hand
        for i, w in enumerate(run.windows[:-1])
        if w.fault and w.moved and not any(w.moved) and w.of(Did.SCALER_STEP, Did.OPTIMIZER_STEP)
    ]
    return _advances(any(one != two for one, two in pairs), bool(pairs))


def _counters(good: Sequence[Window], skipped: Sequence[Window]) -> str:
    """Which of the script's numbers go on by the same in most good windows, and what a skip does to them: which go on
    all the same, each with the line that does it, if it is one alone.
    """
    names = {name for w in good for name in w.counted}
    advance: list[str] = []
    hold: list[str] = []
    for name in sorted(names):
        # The first windows of an epoch, or with a checkpoint, may count something else.
        by, times = Counter(w.counted.get(name, 0) for w in good).most_common(1)[0]
        if name != "_" and by > 0 and times > 0.7 * len(good) and skipped:
            on = [w for w in skipped if w.counted.get(name) == by]
            (advance if on else hold).append(_at(name, {w.counted_at.get(name, "") for w in on}))
    words = [f"{word}: {_listed(names)}" for word, names in (("advance", advance), ("hold", hold)) if names]
    return "; ".join(words)


def _at(name: str, lines: set[str]) -> str:
    (line,) = lines if len(lines) == 1 else ("",)
    return f"{name} ({line})" if line else name


def _listed(names: Sequence[str], most: int = 4) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _advances(did: bool, seen: bool) -> str:
    if not seen:
        return ""
    return "advances" if did else "holds"
