"""What a training step keeps count of: passes and updates, schedule, scale, gradients."""

from __future__ import annotations

import math

from harness.numerals import told_apart
from harness.properties.step_property import step_property
from harness.properties.verdict import Verdict, holds_if
from harness.trials.observation import Observation


@step_property(needs_counters=True)
def counters(seen: Observation) -> Verdict:
    """fwdbwd_pass_step counts the passes, and param_update_step the updates that happened."""
    passes, updates = seen.expected.passes, seen.expected.updates
    if seen.expected.counted is not None:
        updates = seen.expected.counted
    if seen.after.passes != passes:
        return holds_if(
            False, f"{seen.action}: fwdbwd_pass_step is {seen.after.passes}, but there have been {passes} passes"
        )
    return holds_if(
        seen.after.updates == updates,
        f"{seen.action}: param_update_step is {seen.after.updates}, but the parameters have been updated "
        f"{updates} times ({seen.expected.why})",
    )


@step_property(needs_schedule=True)
def schedule(seen: Observation) -> Verdict:
    """The learning rate's schedule advances with the updates."""
    updates = seen.expected.updates
    rate = seen.expected.learning_rate
    if seen.after.schedule_steps not in (None, updates):
        return holds_if(
            False,
            f"{seen.action}: after {updates} updates the schedule stands at step {seen.after.schedule_steps} "
            f"({seen.expected.why})",
        )
    found, right = told_apart(seen.after.learning_rate, rate, 6)
    return holds_if(
        math.isclose(seen.after.learning_rate, rate, rel_tol=1e-12),
        f"{seen.action}: after {updates} updates the schedule gives a rate of {found}; it should be {right} "
        f"({seen.expected.why})",
    )


@step_property()
def scale(seen: Observation) -> Verdict:
    """Scale and growth tracker follow GradScaler's rule for the gradients seen."""
    # In full: scales are powers of two, and six digits can't tell every two of them apart.
    permitted = " or ".join(f"{s.scale:.17g} (tracker {s.growth_tracker})" for s in seen.expected.scaler)
    found = seen.after.scaler
    return holds_if(
        found in seen.expected.scaler,
        f"{seen.action}: the scale is {found.scale:.17g} (tracker {found.growth_tracker}), but not {permitted}, "
        f"as {seen.expected.why}",
    )


@step_property(needs_clearing=True)
def gradients_cleared(seen: Observation) -> Verdict:
    """No gradient is left when a window has ended."""
    return holds_if(
        seen.after.gradients_cleared or not seen.expected.window_ended,
        f"{seen.action}: gradients are left after the window's end ({seen.expected.why})",
    )
