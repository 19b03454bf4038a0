"""Does the reason that a step gives for dropping a window fit what happened?

Every step has words of its own. What can be claimed without knowing them: a reason that names one fault by the field's
usual words (NaN, inf, overflow, large norm, exploding, "no gradients") is wrong where that fault can't have been seen.
Any other reason ("bad window"), one that names several faults and one that denies a fault are left alone.
"""

from __future__ import annotations

import re
from itertools import pairwise

from harness.oracle.window import Fault

_NONFINITE = {"nan", "nans", "inf", "infs", "infinite", "infinity", "nonfinite", "overflow", "overflowed"}
_EXPLODING = {"exploding", "exploded", "explosion"}
_NORM, _OVER = (
    {"norm", "gradnorm"},
    {"over", "above", "exceeds", "exceeded", "exceeding", "large", "high", "big", "limit"},
)
_DENIALS = {"no", "not", "non", "without", "never"}
# A norm beyond this has squares that float32 can't hold: its step sees infinity.
_SQUARES_OVERFLOW = 2.0**60


def misfit(reason: str, fault: Fault | None, norm: float | None) -> str:
    """What is wrong with the reason of a dropped window, or empty.

    Args:
        reason: as the step gave it.
        fault: what happened; ``None`` for a window that was good.
        norm: of its gradients; ``None`` where no finite one exists.
    """
    named = _named(reason)
    if named is None or fault in _FITTING[named]:
        return ""
    if fault is Fault.LARGE_NORM and named is not Fault.NO_GRADIENTS and norm is not None and norm > _SQUARES_OVERFLOW:
        return ""
    # A limit of its own may be lower.
    if named is Fault.LARGE_NORM and fault is not Fault.NO_GRADIENTS:
        return ""
    return f"but {fault.value}" if fault is not None else "but all was finite and in bounds"


def is_of_a_skip(reason: str) -> bool:
    """Whether the reason can only be one for dropping a window. A large norm may be told of a clipped one."""
    return _named(reason) not in (None, Fault.LARGE_NORM)


# A NaN loss sends NaN gradients back, or none where its step spares them. A norm that is NaN or inf is in no limit.
_UNSPECIFIED = Fault.NONFINITE_GRADIENTS
_FITTING = {
    Fault.NONFINITE_LOSS: {Fault.NONFINITE_LOSS},
    Fault.NO_GRADIENTS: {Fault.NO_GRADIENTS, Fault.NONFINITE_LOSS},
    Fault.NONFINITE_GRADIENTS: {Fault.NONFINITE_GRADIENTS, Fault.NONFINITE_LOSS},
    Fault.LARGE_NORM: {Fault.LARGE_NORM, Fault.NONFINITE_GRADIENTS, Fault.NONFINITE_LOSS},
}


def _named(reason: str) -> Fault | None:
    """The fault that the reason names; ``None`` for none or several."""
    split = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", reason.replace("NaN", " nan "))
    words = re.findall(r"[a-z]+", split.lower())
    said = set(words)
    denied = {word for before, word in pairwise(words) if before in _DENIALS}
    gradients = any(word.startswith("grad") for word in words)
    loss = "loss" in said and not any(word.startswith("scal") for word in words)
    nonfinite = bool(_NONFINITE & said) or "finite" in denied
    large = bool(_EXPLODING & said) or bool(_NORM & said and _OVER & said)
    if any(word.startswith("grad") for word in denied):
        return None if nonfinite or large else Fault.NO_GRADIENTS
    if denied - {"finite"} or (nonfinite and (_NORM & said or large)) or (nonfinite and loss and gradients):
        return None
    if nonfinite:
        return Fault.NONFINITE_LOSS if loss else _UNSPECIFIED
    return Fault.LARGE_NORM if large else None
