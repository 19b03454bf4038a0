"""Whether what a training step says of itself is true."""

from __future__ import annotations

import math

from harness.numerals import told_apart
from harness.properties.skip_reason import is_of_a_skip, misfit
from harness.properties.step_property import step_property
from harness.properties.verdict import VACUOUS, Verdict, holds_if
from harness.protocols import StepReport
from harness.trials.observation import Observation


@step_property(needs_report=True)
def truthful(seen: Observation) -> Verdict:
    """What the step reports of itself is what happened: whether it stepped, why not, norm and scale.

    A step that doesn't report whether it stepped is not judged.
    """
    report = seen.report
    if report is None or report.stepped is None:
        return VACUOUS
    for found in (_claimed_step(seen, report), _claimed_reason(seen, report), _claimed_numbers(seen, report)):
        if found:
            return holds_if(False, f"{seen.action}: the step {found}")
    return VACUOUS


def _claimed_step(seen: Observation, report: StepReport) -> str:
    """What is wrong with the step's ``stepped``, or empty. A step on gradients of zero may report either."""
    moved = bool(seen.before.changed(seen.after))
    unseen = seen.expected.stepped and not seen.expected.moved
    if bool(report.stepped) == moved or (unseen and not moved):
        return ""
    return f"says stepped={report.stepped}, but the parameters {'moved' if moved else 'did not move'}"


def _claimed_reason(seen: Observation, report: StepReport) -> str:
    """What is wrong with its reason, or empty. A missing reason, or one in unknown words, is not judged."""
    if not report.reason:
        return ""
    if report.stepped:
        skipping = is_of_a_skip(report.reason)
        return f"says that it stepped, and gives the reason {report.reason!r} for skipping" if skipping else ""
    wrong = misfit(report.reason, seen.expected.fault, seen.expected.grad_norm)
    return f"gives the reason {report.reason!r}, {wrong}" if wrong else ""


def _claimed_numbers(seen: Observation, report: StepReport) -> str:
    """What is wrong with its gradient norm or scale, or empty. A number that isn't given is not judged."""
    claims = (
        ("gradient norm", report.grad_norm, seen.expected.grad_norm, {"rel_tol": 1e-5, "abs_tol": 1e-12}),
        ("scale", report.scale, seen.after.scaler.scale, {"rel_tol": 0.0}),
    )
    for what, said, true, tolerance in claims:
        if said is None or true is None:
            continue
        try:
            reported = float(said)
        except (TypeError, ValueError, RuntimeError):
            return f"reports a {what} that is no number but a {type(said).__name__}"
        if not math.isclose(reported, true, **tolerance):
            shown, right = told_apart(reported, true, 6)
            return f"reports a {what} of {shown}; it should be {right}"
    return ""
