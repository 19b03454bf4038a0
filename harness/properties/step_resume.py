"""Whether a training step can be saved and restored."""

from __future__ import annotations

from harness.cases.descriptors import Action
from harness.errors import describe_exception
from harness.properties.step_bookkeeping import counters, scale, schedule
from harness.properties.step_outcome import right_update
from harness.properties.step_property import RECOVERABLE, step_property
from harness.properties.verdict import VACUOUS, Verdict, holds_if
from harness.trials.observation import Observation, Snapshot


@step_property(actions=(Action.RESTORE, *RECOVERABLE), needs_state=True, of_raising=True)
def resume(seen: Observation) -> Verdict:
    """Saved and restored at any moment, the run goes on as if it had not been.

    Saving, building everything anew and loading changes nothing that can be seen, now or later.
    """
    if seen.raised is not None:
        return holds_if(not seen.restored, f"{seen.action}: raises {describe_exception(seen.raised)}")
    if seen.restored:
        changed = _differences(seen.before, seen.after)
        return holds_if(not changed, f"after save and restore {', '.join(changed)} differ")
    for check in (right_update, counters, schedule, scale):
        verdict = check(seen)
        if not verdict.holds:
            return holds_if(False, f"after a restore, {verdict.message}")
    return VACUOUS


def _differences(before: Snapshot, after: Snapshot) -> list[str]:
    changed = before.changed(after)
    for field in ("passes", "updates", "learning_rate", "schedule_steps", "scaler", "gradients_cleared"):
        if getattr(before, field) != getattr(after, field):
            changed.append(field.replace("_", " "))
    return changed
