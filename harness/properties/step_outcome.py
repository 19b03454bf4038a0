"""What a training step does to the parameters, and whether it raises."""

from __future__ import annotations

import torch

from harness.cases.descriptors import Action, PassKind
from harness.errors import describe_exception
from harness.numerals import largest, told_apart
from harness.oracle.window import Fault
from harness.properties.step_property import RECOVERABLE, step_property
from harness.properties.verdict import VACUOUS, Verdict, at_most, holds_if
from harness.trials.observation import Observation


@step_property(actions=RECOVERABLE, of_raising=True)
def never_raises(seen: Observation) -> Verdict:
    """No sequence of good, huge, tiny, NaN, inf and overflowing micro-steps makes the step raise."""
    if seen.raised is None:
        return VACUOUS
    return holds_if(
        False,
        f"{seen.action}: raises {describe_exception(seen.raised)}",
    )


@step_property(
    actions=(Action.FROZEN, Action.GOOD, Action.NAN_LOSS),
    passes=(PassKind.FROZEN, PassKind.GOOD),
    effort=0.2,
    of_raising=True,
)
def no_gradients(seen: Observation) -> Verdict:
    """A window that reaches no parameter (all frozen) doesn't make the step raise."""
    return never_raises(seen)


@step_property()
def finite_parameters(seen: Observation) -> Verdict:
    """The parameters stay finite."""
    broken = [name for name, p in seen.after.parameters.items() if not bool(torch.isfinite(p).all())]
    return holds_if(not broken, f"{seen.action}: {', '.join(broken)} became NaN or inf")


@step_property()
def drops_bad_windows(seen: Observation) -> Verdict:
    """Parameters, and an average of them where there is one, move at the end of a good window and at no other time.

    A step on gradients of zero may leave everything where it is.
    """
    moved = bool(seen.before.changed(seen.after))
    if moved and not seen.expected.stepped:
        return holds_if(
            False, f"{seen.action}: the parameters moved, though {seen.expected.why}: the window must be dropped"
        )
    if seen.expected.moved and not moved:
        return holds_if(False, f"{seen.action}: the parameters did not move, though {seen.expected.why}")
    return _average_follows(seen)


def _average_follows(seen: Observation) -> Verdict:
    """An average of the parameters takes them in once for each step of the optimizer. Where a window had no gradients,
    it may: they are what they were. Whether they are saved is the step's own matter.
    """
    if seen.restored or seen.after.averagings is None or seen.before.averagings is None:
        return VACUOUS
    times = seen.after.averagings - seen.before.averagings
    if seen.expected.stepped:
        return holds_if(times == 1, f"{seen.action}: the average was updated {times} times in one step")
    permitted = times == 0 or (times == 1 and seen.expected.fault is Fault.NO_GRADIENTS)
    return holds_if(permitted, f"{seen.action}: the average was updated, though {seen.expected.why}")


@step_property(needs_prediction=True)
def right_update(seen: Observation) -> Verdict:
    """A good window moves the parameters by its clipped gradients, as the optimizer began: rates, betas, decay.

    The parameters are those that the optimizer makes of the clipped gradients, to float32's rounding.
    """
    if not all(bool(torch.isfinite(p).all()) for p in seen.after.parameters.values()):
        return VACUOUS  # for finite_parameters to convict
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
