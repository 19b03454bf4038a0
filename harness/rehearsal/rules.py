"""The universal rules of an AMP training loop, held against what a run of a script was seen to do.

Whatever a loop's own policies are: it never raises because of a bad batch; gradients that aren't finite move nothing;
the scaler's protocol is kept; the schedule follows the updates; gradients of a dropped window don't reach the next;
what is saved is enough to go on; after the fault, training goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from harness.oracle.levels import Level
from harness.rehearsal.record import Did, Run, Window

RECOVERY = 3
"""Windows without a fault that follow each window with one; within them, training must go on."""


@dataclass(frozen=True)
class Finding:
    """A rule that was broken.

    Attributes:
        rule: its name.
        sentence: what was seen, with the script's lines.
        where: the line that did it; empty where there is none.
        fault: in the window of which fault it was seen; empty where there was none.
        level: how grave it is.
    """

    rule: str
    sentence: str
    where: str = ""
    fault: str = ""
    level: Level = Level.FAULT


@dataclass(frozen=True)
class _Seen:
    """A window with a fault, or without, and its neighbours; and the only line that was seen to change an average."""

    run: Run
    index: int
    averages_at: str = ""

    @property
    def window(self) -> Window:
        return self.run.windows[self.index]

    @property
    def after(self) -> Sequence[Window]:
        """The windows that follow, up to the next with a fault."""
        found = []
        for window in self.run.windows[self.index + 1 :]:
            if window.fault:
                break
            found.append(window)
        return found

    @property
    def skipped(self) -> bool:
        """Nothing moved in it."""
        return not any(self.window.moved)


def findings(run: Run, others: Sequence[Run] = ()) -> list[Finding]:
    """Each broken rule, once for every fault that breaks it at the same line.

    Args:
        others: runs of the same script. A window in which no line was seen to change a running average is told the
            line of another, where that was the only one ever seen.
    """
    found = [one for rule in _OF_A_RUN for one in rule(run)]
    lines = {window.averages_at for each in (run, *others) for window in each.windows} - {""}
    averages_at = next(iter(lines)) if len(lines) == 1 else ""
    for index, window in enumerate(run.windows):
        if not window.over:
            for check in _OF_A_WINDOW:
                found += check(_Seen(run, index, averages_at))
    return list({(one.rule, one.where, one.fault): one for one in reversed(found)}.values())[::-1]


def never_raises(run: Run) -> Iterator[Finding]:
    """A bad batch never ends the training."""
    last = run.windows[-1] if run.windows else None
    fault = next((w.fault for w in reversed(run.windows[-1 - RECOVERY :]) if w.fault), "")
    if run.ending.raised and last is not None and fault:
        yield Finding("never-raises", f"{run.ending.where}: {run.ending.raised}", run.ending.where, fault)


def nonfinite_moves_nothing(seen: _Seen) -> Iterator[Finding]:
    """Gradients that are not finite move no parameter, no state and no running average."""
    window = seen.window
    if not window.met_bad_gradients:
        return
    bad = [c for c in window.of(Did.OPTIMIZER_STEP, Did.SCALER_STEP) if c.finite is False]
    moved = [c for c in bad if c.optimizer < len(window.moved) and window.moved[c.optimizer]]
    if moved:
        line = moved[-1].where
        yield Finding(
            "nonfinite-moves-nothing",
            f"{line}: the optimizer stepped with gradients that are not finite",
            line,
            window.fault,
        )
    elif seen.skipped and window.averages:
        line, step = window.averages_at or seen.averages_at, bad[-1].where
        text = f"{line}: the running averages are updated here although the step at {step} was skipped"
        if not line:
            text = f"the running averages were updated although the step at {step} was skipped"
        yield Finding("nonfinite-moves-nothing", text, line or step, window.fault)


def stays_finite(seen: _Seen) -> Iterator[Finding]:
    """Parameters, the optimizer's state and running averages stay finite."""
    window = seen.window
    if window.met_bad_gradients and any(window.moved):
        return  # which says it all
    before = seen.run.windows[seen.index - 1] if seen.index else None
    for is_finite, was_finite, what in (
        (window.finite, before is None or before.finite, "parameters or optimizer's state are"),
        (window.averages_finite, before is None or before.averages_finite, "running averages are"),
    ):
        if not is_finite and was_finite:
            steps = window.of(Did.OPTIMIZER_STEP)
            line = steps[-1].where if steps else ""
            yield Finding("stays-finite", f"{line}: the {what} NaN or inf from here on", line, window.fault)


def scaler_protocol(seen: _Seen) -> Iterator[Finding]:
    """``unscale_`` at most once for each optimizer between two updates; one update, after every step; clipping sees
    gradients that are unscaled.
    """
    if not seen.run.scaler:
        return
    window = seen.window
    updates = window.of(Did.UPDATE)
    if len(updates) > 1:
        line = updates[1].where
        yield Finding(
            "scaler-protocol", f"{line}: scaler.update() for the second time in one window", line, window.fault
        )
    positions = {id(call): at for at, call in enumerate(window.calls)}
    for call in window.of(Did.SCALER_STEP):
        if updates and positions[id(call)] > positions[id(updates[0])]:
            text = f"{call.where}: scaler.step() after scaler.update() at {updates[0].where}"
            yield Finding("scaler-protocol", text, call.where, window.fault)
            break
    if window.of(Did.UNSCALE) and not updates:
        line = window.of(Did.UNSCALE)[0].where
        text = f"{line}: scaler.unscale_() and no scaler.update() before the next window"
        yield Finding("scaler-protocol", text, line, window.fault)
    for call in window.of(Did.CLIP):
        if call.notes.get("scaled") and window.scale is not None and call.optimizer >= 0:
            text = f"{call.where}: clips gradients that are still multiplied by the scale"
            yield Finding("scaler-protocol", text, call.where, window.fault)
            break


def schedule_follows_updates(seen: _Seen) -> Iterator[Finding]:
    """The learning rate's schedule advances with the updates, not with the attempts."""
    window = seen.window
    if not seen.skipped or not window.fault or not window.moved:
        return
    if any(call.finite is None for call in window.of(Did.OPTIMIZER_STEP)):
        return  # a step that was made, and had no gradients to go by
    attempts = window.of(Did.SCALER_STEP, Did.OPTIMIZER_STEP)
    why = f"the step at {attempts[-1].where} was skipped" if attempts else "no step was made"
    for call in window.of(Did.SCHEDULE):
        if goes_by_updates(seen.run.windows, call.where):
            text = f"{call.where}: scheduler.step() advanced although {why}"
            yield Finding("schedule-follows-updates", text, call.where, window.fault)
            return
    if set_by_hand(seen.run) and attempts and seen.after and seen.after[0].rates != window.rates:
        line = window.rates_at
        text = f"{line}: the learning rate is set here, and went on although {why}"
        if not line:
            line = attempts[-1].where
            text = f"the learning rate, which the script sets itself, went on although {why}"
        yield Finding("schedule-follows-updates", text, line, window.fault)


def goes_by_updates(windows: Sequence[Window], where: str = "") -> bool:
    """Whether a schedule steps with most updates, at this line if one is given: one of epochs, or of what a validation
    gave, steps now and then, and may do so in a window that is skipped. Where no update was seen it is taken to.
    """
    updates = [window for window in windows if not window.fault and not window.over and any(window.moved)]
    steps = sum(any(call.where == where or not where for call in w.of(Did.SCHEDULE)) for w in updates)
    return not updates or 2 * steps > len(updates)


def clip_leaves_gradients(seen: _Seen) -> Iterator[Finding]:
    """Clipping leaves gradients to step with: a limit of 0 zeroes all of them, and is no way to switch it off."""
    for call in seen.window.of(Did.CLIP):
        if call.limit is not None and call.limit <= 0:
            text = f"{call.where}: clips gradients to a {call.notes.get('by', 'norm')} of {call.limit:g}"
            yield Finding("clip-leaves-gradients", f"{text}, which zeroes all of them", call.where)
            return


def set_by_hand(run: Run) -> bool:
    """The script sets the learning rates itself, to others in most windows."""
    pairs = [
        (one.rates, two.rates)
        for one, two in zip(run.windows[1:], run.windows[2:], strict=False)
        if not (one.fault or two.fault or one.over or two.over or one.of(Did.SCHEDULE) or two.of(Did.SCHEDULE))
    ]
    return bool(pairs) and sum(one != two for one, two in pairs) > len(pairs) / 2


def no_stale_gradients(seen: _Seen) -> Iterator[Finding]:
    """Gradients of a window that was dropped don't reach the next."""
    window = seen.window
    if window.fault and seen.skipped and seen.after and seen.after[0].stale:
        backward = seen.after[0].of(Did.BACKWARD)
        line = backward[0].where if backward else ""
        text = f"{line}: adds to gradients that the dropped window before had left"
        yield Finding("no-stale-gradients", text, line, window.fault)


def saves_the_scaler(run: Run) -> Iterator[Finding]:
    """What is saved with the optimizer is enough to go on: a scaler that is on is in the checkpoint."""
    for call, whole in run.saves():
        if run.scaler and not whole:
            text = f"{call.where}: saves the optimizer's state without the scaler's"
            yield Finding("saves-the-scaler", text, call.where)
            return


def training_goes_on(seen: _Seen) -> Iterator[Finding]:
    """After the fault the next good windows move the parameters."""
    window, after = seen.window, seen.after[:RECOVERY]
    if not window.fault or len(after) < RECOVERY or any(later.over for later in after):
        return
    if not any(any(later.moved) for later in after[-2:]):
        text = f"no parameter moves any more, {RECOVERY} windows after it"
        yield Finding("training-goes-on", text, fault=window.fault)
    elif any(not math.isfinite(loss) for loss in after[-1].losses):
        yield Finding(
            "training-goes-on", f"the loss is still not finite {RECOVERY} windows after it", fault=window.fault
        )


_OF_A_RUN: tuple[Callable[[Run], Iterator[Finding]], ...] = (never_raises, saves_the_scaler)
_OF_A_WINDOW: tuple[Callable[[_Seen], Iterator[Finding]], ...] = (
    nonfinite_moves_nothing,
    stays_finite,
    scaler_protocol,
    clip_leaves_gradients,
    schedule_follows_updates,
    no_stale_gradients,
    training_goes_on,
)

RULES: tuple[Callable[..., Iterator[Finding]], ...] = (*_OF_A_RUN, *_OF_A_WINDOW)
"""Of one run; each function's name is the rule's, its docstring the claim."""
