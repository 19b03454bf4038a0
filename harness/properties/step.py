"""What an AMP training step owes its user, told from one action of a fault program at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from harness.cases.descriptors import Action, PassKind
from harness.errors import describe_exception
from harness.properties.observation import Observation, Snapshot
from harness.properties.verdict import VACUOUS, Verdict, at_most, holds_if
from harness.subjects.step import StepFactory
from harness.subjects.training import TrainingFactory

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
    """

    name: str
    claim: str
    check: Callable[[Observation], Verdict]
    actions: tuple[Action, ...] = tuple(action for action in Action if action is not Action.RESTORE)
    # The same for nearly all: one run of a training's program serves them together.
    passes: tuple[PassKind, ...] = tuple(kind for kind in PassKind if kind is not PassKind.FROZEN)
    needs_state: bool = False
    needs_report: bool = False

    def inapplicable(self, factory: StepFactory | TrainingFactory) -> str | None:
        """Why the property doesn't apply to the step, or ``None``."""
        if isinstance(factory, TrainingFactory):
            return None
        if self.needs_state and not factory.keeps_state:
            return "a FaceLift-shaped trainer saves itself elsewhere than in optimizer_step"
        if self.needs_report and not factory.reports:
            return "a FaceLift-shaped trainer's optimizer_step returns nothing"
        return None

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
    moved = any(not torch.equal(seen.before.parameters[n], p) for n, p in seen.after.parameters.items())
    if moved == seen.expected.stepped:
        return VACUOUS
    if moved:
        return holds_if(
            False, f"{seen.action}: the parameters moved, though {seen.expected.why}: the window must be dropped"
        )
    return holds_if(False, f"{seen.action}: the parameters did not move, though {seen.expected.why}")


def right_update(seen: Observation) -> Verdict:
    """The parameters are those that the optimizer makes of the clipped gradients, to float32's rounding."""
    worst = 0.0
    for name, value in seen.expected.parameters.items():
        error = (seen.after.parameters[name].double() - value).abs().max()
        worst = max(worst, float(error), key=lambda e: math.inf if e != e else e)
    return at_most(
        worst,
        seen.expected.parameter_error,
        f"{seen.action}: the parameters are off by {worst:.3g} from what the clipped gradients give",
    )


def counters(seen: Observation) -> Verdict:
    expected = seen.expected.updates
    return holds_if(
        seen.after.updates == expected,
        f"{seen.action}: param_update_step is {seen.after.updates}, but the parameters have been updated "
        f"{expected} times ({seen.expected.why})",
    )


def schedule_follows(seen: Observation) -> Verdict:
    updates = seen.expected.updates
    rate = seen.expected.learning_rate
    right = seen.after.schedule_steps == updates and math.isclose(seen.after.learning_rate, rate, rel_tol=1e-12)
    return holds_if(
        right,
        f"{seen.action}: after {updates} updates the schedule stands at step {seen.after.schedule_steps} with "
        f"rate {seen.after.learning_rate:.6g}; it should be {rate:.6g} ({seen.expected.why})",
    )


def scale(seen: Observation) -> Verdict:
    permitted = " or ".join(f"{s.scale:g} (tracker {s.growth_tracker})" for s in seen.expected.scaler)
    found = seen.after.scaler
    return holds_if(
        found in seen.expected.scaler,
        f"{seen.action}: the scale is {found.scale:g} (tracker {found.growth_tracker}), but not {permitted}, "
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
    moved = any(not torch.equal(seen.before.parameters[n], p) for n, p in seen.after.parameters.items())
    if report.stepped != moved:
        return holds_if(
            False, f"{seen.action}: the step says stepped={report.stepped}, but the parameters "
            f"{'moved' if moved else 'did not move'}"
        )  # fmt: skip
    norm = seen.expected.grad_norm
    if norm is not None and report.grad_norm is not None and not _close(report.grad_norm, norm):
        return holds_if(
            False, f"{seen.action}: the step reports a gradient norm of {report.grad_norm:.6g}; it was {norm:.6g}"
        )
    if report.scale is not None and report.scale != seen.after.scaler.scale:
        return holds_if(
            False,
            f"{seen.action}: the step reports a scale of {report.scale:g}; it is {seen.after.scaler.scale:g}",
        )
    return VACUOUS


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
    changed = [name for name, p in before.parameters.items() if not torch.equal(p, after.parameters[name])]
    for field in ("passes", "updates", "learning_rate", "schedule_steps", "scaler", "gradients_cleared"):
        if getattr(before, field) != getattr(after, field):
            changed.append(field.replace("_", " "))
    return changed


def _close(reported: float, norm: float) -> bool:
    return math.isclose(reported, norm, rel_tol=1e-5, abs_tol=1e-12)


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
    StepProperty("right-update", "A good window moves the parameters by its clipped gradients.", right_update),
    StepProperty("counters", "param_update_step counts the updates that happened.", counters),
    StepProperty("schedule", "The learning rate's schedule advances with the updates.", schedule_follows),
    StepProperty("scale", "Scale and growth tracker follow GradScaler's rule for the gradients seen.", scale),
    StepProperty("gradients-cleared", "No gradient is left when a window has ended.", gradients_cleared),
    StepProperty("truthful", "What the step reports of itself is what happened.", truthful, needs_report=True),
    StepProperty(
        "resume",
        "Saved and restored at any moment, the run goes on as if it had not been.",
        resumes,
        actions=(Action.RESTORE, *_RECOVERABLE),
        needs_state=True,
    ),
)
