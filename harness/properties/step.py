"""What an AMP training step owes its user, told from one action of a fault program at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from harness.cases.descriptors import Action, PassKind
from harness.errors import describe_exception
from harness.numerals import largest, told_apart
from harness.properties.skip_reason import is_of_a_skip, misfit
from harness.properties.verdict import VACUOUS, Verdict, at_most, holds_if
from harness.protocols import StepReport
from harness.trials.observation import Observation, Snapshot

_RECOVERABLE = tuple(action for action in Action if action not in (Action.FROZEN, Action.RESTORE))


@dataclass(frozen=True)
class StepProperty:
    """A claim about a step, checked after every action until one raises.

    Attributes:
        name: as ``--property`` takes it.
        claim: the sentence.
        check: the verdict on one action.
        actions: what its fault programs are made of, for a step that is fed losses.
        passes: likewise, for a whole training.
        needs_state: it speaks only of steps that can save and restore themselves.
        needs_report: it speaks only of steps that say what they did.
        needs_prediction: it speaks only of steps whose optimizer's updates can be told.
    """

    name: str
    claim: str
    check: Callable[[Observation], Verdict]
    actions: tuple[Action, ...] = tuple(action for action in Action if action is not Action.RESTORE)
    # The same for nearly all: one run of a training's program serves them together.
    passes: tuple[PassKind, ...] = tuple(kind for kind in PassKind if kind is not PassKind.FROZEN)
    needs_state: bool = False
    needs_report: bool = False
    needs_prediction: bool = False

    def verdict(self, seen: Observation) -> Verdict:
        """The verdict on one action; of one that raised, only the claims that nothing raises speak."""
        if seen.raised is not None and self.check is not never_raises:
            return VACUOUS
        return self.check(seen)


def never_raises(seen: Observation) -> Verdict:
    if seen.raised is None:
        return VACUOUS
    return holds_if(
        False,
        f"{seen.action}: raises {describe_exception(seen.raised)}",
    )


def finite_parameters(seen: Observation) -> Verdict:
    broken = [name for name, p in seen.after.parameters.items() if not bool(torch.isfinite(p).all())]
    return holds_if(not broken, f"{seen.action}: {', '.join(broken)} became NaN or inf")


def moves_when_it_should(seen: Observation) -> Verdict:
    """A step on gradients of zero may leave everything where it is."""
    moved = bool(seen.before.changed(seen.after))
    if moved and not seen.expected.stepped:
        return holds_if(
            False, f"{seen.action}: the parameters moved, though {seen.expected.why}: the window must be dropped"
        )
    return holds_if(
        moved or not seen.expected.moved, f"{seen.action}: the parameters did not move, though {seen.expected.why}"
    )


def right_update(seen: Observation) -> Verdict:
    """The parameters are those that the optimizer makes of the clipped gradients, to float32's rounding."""
    errors = [0.0]
    for name, value in seen.expected.parameters.items():
        found = seen.after.parameters.get(name)
        if found is None:
            return holds_if(False, f"{seen.action}: the parameter {name} is gone")
        if found.numel():
            errors.append(float((found.double() - value).abs().max()))
    worst = largest(*errors)
    off, allowed = told_apart(worst, seen.expected.parameter_error)
    return at_most(
        worst,
        seen.expected.parameter_error,
        f"{seen.action}: the parameters are off by {off} from what the clipped gradients give, where {allowed} is "
        f"allowed",
    )


def counters(seen: Observation) -> Verdict:
    passes, updates = seen.expected.passes, seen.expected.updates
    if seen.after.passes != passes:
        return holds_if(
            False, f"{seen.action}: fwdbwd_pass_step is {seen.after.passes}, but there have been {passes} passes"
        )
    return holds_if(
        seen.after.updates == updates,
        f"{seen.action}: param_update_step is {seen.after.updates}, but the parameters have been updated "
        f"{updates} times ({seen.expected.why})",
    )


def schedule_follows(seen: Observation) -> Verdict:
    updates = seen.expected.updates
    rate = seen.expected.learning_rate
    if seen.after.schedule_steps != updates:
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


def scale(seen: Observation) -> Verdict:
    # In full: scales are powers of two, and six digits can't tell every two of them apart.
    permitted = " or ".join(f"{s.scale:.17g} (tracker {s.growth_tracker})" for s in seen.expected.scaler)
    found = seen.after.scaler
    return holds_if(
        found in seen.expected.scaler,
        f"{seen.action}: the scale is {found.scale:.17g} (tracker {found.growth_tracker}), but not {permitted}, "
        f"as {seen.expected.why}",
    )


def gradients_cleared(seen: Observation) -> Verdict:
    return holds_if(
        seen.after.gradients_cleared or not seen.expected.window_ended,
        f"{seen.action}: gradients are left after the window's end ({seen.expected.why})",
    )


def truthful(seen: Observation) -> Verdict:
    """What the step says of itself, where it says anything."""
    report = seen.report
    if report is None or report.stepped is None:
        return VACUOUS
    for found in (_claimed_step(seen, report), _claimed_reason(seen, report), _claimed_numbers(seen, report)):
        if found:
            return holds_if(False, f"{seen.action}: the step {found}")
    return VACUOUS


def _claimed_step(seen: Observation, report: StepReport) -> str:
    """What is wrong with it, or empty. A step on gradients of zero happened, though nothing moved."""
    moved = bool(seen.before.changed(seen.after))
    unseen = seen.expected.stepped and not seen.expected.moved
    if bool(report.stepped) == moved or (unseen and not moved):
        return ""
    return f"says stepped={report.stepped}, but the parameters {'moved' if moved else 'did not move'}"


def _claimed_reason(seen: Observation, report: StepReport) -> str:
    """Likewise. Of no reason, and of one in words that aren't known, nothing is claimed."""
    if not report.reason:
        return ""
    if report.stepped:
        skipping = is_of_a_skip(report.reason)
        return f"says that it stepped, and gives the reason {report.reason!r} for skipping" if skipping else ""
    wrong = misfit(report.reason, seen.expected.fault, seen.expected.grad_norm)
    return f"gives the reason {report.reason!r}, {wrong}" if wrong else ""


def _claimed_numbers(seen: Observation, report: StepReport) -> str:
    """Likewise."""
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


def resumes(seen: Observation) -> Verdict:
    """Saving, building everything anew and loading changes nothing that can be seen, now or later."""
    if seen.restored:
        changed = _differences(seen.before, seen.after)
        return holds_if(not changed, f"after save and restore {', '.join(changed)} differ")
    for check in (right_update, counters, schedule_follows, scale):
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


STEP_PROPERTIES: tuple[StepProperty, ...] = (
    StepProperty(
        "never-raises",
        "No sequence of good, huge, tiny, NaN, inf and overflowing micro-steps makes the step raise.",
        never_raises,
        actions=_RECOVERABLE,
    ),
    StepProperty(
        "no-gradients",
        "A window that reaches no parameter (all frozen) doesn't make the step raise.",
        never_raises,
        actions=(Action.FROZEN, Action.GOOD, Action.NAN_LOSS),
        passes=(PassKind.FROZEN, PassKind.GOOD),
    ),
    StepProperty("finite-parameters", "The parameters stay finite.", finite_parameters),
    StepProperty(
        "drops-bad-windows",
        "Parameters move at the end of a good window and at no other time.",
        moves_when_it_should,
    ),
    StepProperty(
        "right-update",
        "A good window moves the parameters by its clipped gradients, as the optimizer began: rates, betas, decay.",
        right_update,
        needs_prediction=True,
    ),
    StepProperty(
        "counters", "fwdbwd_pass_step counts the passes, and param_update_step the updates that happened.", counters
    ),
    StepProperty("schedule", "The learning rate's schedule advances with the updates.", schedule_follows),
    StepProperty("scale", "Scale and growth tracker follow GradScaler's rule for the gradients seen.", scale),
    StepProperty("gradients-cleared", "No gradient is left when a window has ended.", gradients_cleared),
    StepProperty(
        "truthful",
        "What the step reports of itself is what happened: whether it stepped, why not, norm and scale.",
        truthful,
        needs_report=True,
    ),
    StepProperty(
        "resume",
        "Saved and restored at any moment, the run goes on as if it had not been.",
        resumes,
        actions=(Action.RESTORE, *_RECOVERABLE),
        needs_state=True,
    ),
)
