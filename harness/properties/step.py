"""What an AMP training step owes its user, judged action by action: every claim, in the order of reports."""

from __future__ import annotations

from harness.properties import step_bookkeeping, step_outcome, step_report, step_resume
from harness.properties.step_property import StepProperty

STEP_PROPERTIES: tuple[StepProperty, ...] = (
    step_outcome.never_raises,
    step_outcome.no_gradients,
    step_outcome.finite_parameters,
    step_outcome.drops_bad_windows,
    step_outcome.right_update,
    step_bookkeeping.counters,
    step_bookkeeping.schedule,
    step_bookkeeping.scale,
    step_bookkeeping.gradients_cleared,
    step_report.truthful,
    step_resume.resume,
)
