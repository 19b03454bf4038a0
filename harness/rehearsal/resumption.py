"""A run that is killed after a checkpoint, and one that is started again from it: does it take up what was there?

Other data may come after a resume, so losses aren't compared. What is compared is where the training stands: the state
in which the first step of the new process begins, and that in which the step after the checkpoint began.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.rehearsal.program import AFTER_SAVE
from harness.rehearsal.record import Did, Run
from harness.rehearsal.rules import Finding

Row = tuple[str, str]
RULE = "resume-goes-on"
CHECKPOINT = "{checkpoint}"
"""In ``--resume-with``: the path of the file that was saved last with an optimizer's state."""


@dataclass(frozen=True)
class Resumption:
    """The two runs.

    Attributes:
        killed: its last windows are those after the checkpoint.
        resumed: what was started then; ``None`` where nothing was.
        asked: the user said how to resume; else it is only tried whether the script does so by itself.
        why_not: why nothing was started.
    """

    killed: Run
    resumed: Run | None
    asked: bool
    why_not: str = "no checkpoint with an optimizer's state was saved"

    @property
    def saved(self) -> tuple[str, str]:
        """The file of the checkpoint, and the script's line that saved it."""
        return saved_last(self.killed)

    @property
    def loaded(self) -> str:
        """The script's line that loaded what had been saved; empty where none was seen."""
        files = {c.notes.get("file") for w in self.killed.windows for c in w.of(Did.SAVE)} - {"", None}
        loads = self.resumed.loads if self.resumed is not None else []
        return next((place for file, place in loads if file in files), "")

    @property
    def took_up(self) -> bool:
        """Something of the checkpoint was seen in the new run: it was loaded, or parameters are as they were."""
        before, after = _states(self)
        same = any(_common(one, other, "parameters") for one, other in _optimizers(before, after))
        return bool(self.loaded) or same


def saved_last(run: Run) -> tuple[str, str]:
    """The file in which an optimizer's state was saved last before the last window, and the line; empty for none."""
    for window in reversed(run.windows[:-AFTER_SAVE]):
        for call in reversed(window.of(Did.SAVE)):
            if call.notes.get("saved_optimizer"):
                return str(call.notes.get("file") or ""), call.where
    return "", ""


def resume_goes_on(resumption: Resumption) -> Iterator[Finding]:
    """A run that was killed and is started again from its checkpoint goes on as if it had not been: with the
    parameters, the optimizer's state, the scaler, the learning rate and the running averages that were there.
    """
    resumed = resumption.resumed
    if resumed is None or not (resumption.asked or resumption.took_up):
        return
    line = resumption.loaded or resumption.saved[1]
    if resumed.ending.raised and not resumed.windows[1:]:
        text = f"{resumed.ending.where}: {resumed.ending.raised}, when it is started again from its checkpoint"
        yield Finding(RULE, text, resumed.ending.where)
        return
    if not resumed.windows or not resumed.windows[0].state.get("optimizers"):
        return
    if not resumption.took_up:
        text = f"{line}: what is saved here is not taken up when the script is started again: its parameters begin anew"
        yield Finding(RULE, text, line)
        return
    for kind, words in differences(resumption).items():
        where = resumption.saved[1] if kind == "scaler" and not _scaler_is_saved(resumption.killed) else line
        yield Finding(RULE, f"{where}: {words}", where)


def differences(resumption: Resumption) -> dict[str, str]:
    """What is not as it was, by its name, each in a sentence."""
    before, after = _states(resumption)
    found: dict[str, str] = {}
    for one, other in _optimizers(before, after):
        if not _equals(one, other, "parameters"):
            found["parameters"] = "the parameters after a resume are others than those before"
        if not _equals(one, other, "state"):
            found["optimizer"] = _of_state(one["now"]["state"], other["state"])
    rates = _other_rates(resumption)
    if rates:
        found["learning rate"] = (
            f"the learning rate is {rates[1]:.6g} after a resume, and would have been {rates[0]:.6g}"
        )
    scaler, new = before.get("scaler"), after.get("scaler")
    if scaler is not None and new is not None and scaler != new:
        name = "scale" if scaler["scale"] != new["scale"] else "good steps"
        what = "the scaler's scale" if name == "scale" else "the number of good steps that the scaler has counted"
        found["scaler"] = f"{what} is {float(new[name]):g} after a resume, and was {float(scaler[name]):g}"
    averages, those = before.get("averages"), after.get("averages")
    if averages and those and not all(average in those for average in averages):
        found["running averages"] = "the running averages after a resume are others than those before"
    return found


def rows(resumption: Resumption | None) -> list[Row]:
    """What the table says of it."""
    if resumption is None:
        return []
    question = "started again after a kill"
    if resumption.resumed is None:
        return [(question, f"not tried: {resumption.why_not}")] if resumption.asked else []
    resumed = resumption.resumed
    if not (resumption.asked or resumption.took_up):
        return [(question, "begins anew: --resume-with says how it resumes")]
    if not resumed.windows[1:]:
        return [(question, f"raises {resumed.ending.raised.partition(':')[0]}" if resumed.ending.raised else "ends")]
    if not resumed.windows[0].state.get("optimizers"):
        return [(question, "not judged: its first window makes no step")]
    if not resumption.took_up:
        return [(question, "begins anew")]
    differing = differences(resumption)
    found = [(question, f"differs: {', '.join(differing)}" if differing else "goes on as it was")]
    counters = _counters(resumption)
    return [*found, ("counters after a resume", counters)] if counters else found


def _states(resumption: Resumption) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """When the step after the checkpoint began, and when the first of the new process did."""
    killed, resumed = resumption.killed.windows, resumption.resumed
    if resumed is None or not resumed.windows or len(killed) < AFTER_SAVE:
        return {}, {}
    saves = [w.state["saved"] for w in killed[:-AFTER_SAVE] if w.state.get("saved")]
    return {**killed[-AFTER_SAVE].state, "saved": saves[-1] if saves else {}}, resumed.windows[0].state


def _optimizers(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each optimizer as it was, ``now`` and when the checkpoint was ``saved``, and as it is in the new process."""
    for name, other in after.get("optimizers", {}).items():
        now = before.get("optimizers", {}).get(name)
        if now is not None:
            yield {"now": now, "saved": before.get("saved", {}).get(name, now)}, other


def _equals(one: Mapping[str, Any], other: Mapping[str, Any], what: str) -> bool:
    """As it is now, or as it was saved: a checkpoint may be saved within a window, whose rest then comes once more."""
    return any(one[when][what] == other[what] for when in ("now", "saved"))


def _common(one: Mapping[str, Any], other: Mapping[str, Any], what: str) -> bool:
    """Some are equal."""
    return any(a == b for when in ("now", "saved") for a, b in zip(one[when][what], other[what], strict=False))


def _other_rates(resumption: Resumption) -> tuple[float, float] | None:
    """The first rate that is another than it would have been, and which; ``None`` for none."""
    assert resumption.resumed is not None
    for one, other in zip(resumption.killed.windows[-AFTER_SAVE:], resumption.resumed.windows, strict=False):
        for were, are in zip(one.rates, other.rates, strict=False):
            if not _alike(were, are):
                return next((a, b) for a, b in zip(were, are, strict=False) if not math.isclose(a, b, rel_tol=1e-6))
        if one.moved != other.moved:
            return None  # a step that was skipped in one alone
    return None


def _alike(one: Sequence[float], other: Sequence[float]) -> bool:
    return len(one) == len(other) and all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(one, other, strict=True))


def _of_state(one: Sequence[Mapping[str, str]], other: Sequence[Mapping[str, str]]) -> str:
    if not any(other):
        return "the optimizer's state is gone after a resume: its averages and step counts begin anew"
    return "the optimizer's state after a resume is another than before"


def _scaler_is_saved(killed: Run) -> bool:
    return any(whole for _, whole in killed.saves())


def _counters(resumption: Resumption) -> str:
    """Numbers of the script that grow in most windows: those that are taken up, and those that begin elsewhere."""
    assert resumption.resumed is not None
    before, after = (state.get("numbers", {}) for state in _states(resumption))
    windows = [w.counted for w in resumption.killed.windows[1:-AFTER_SAVE] if not w.fault]
    steady = [
        name
        for name in sorted(before)
        if name in after and name != "_" and sum(w.get(name, 0) > 0 for w in windows) > 0.7 * len(windows)
    ]
    words = (
        ("go on", [name for name in steady if before[name] == after[name]]),
        ("begin elsewhere", [name for name in steady if before[name] != after[name]]),
    )
    return "; ".join(f"{word}: {', '.join(names)}" for word, names in words if names)
