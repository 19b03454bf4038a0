"""Why a violation happens, and what to change, as far as its evidence tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_HALVES = ("float16", "bfloat16")
_MULTIPLIES = ("convolution", "conv2d", "mm", "bmm", "addmm", "baddbmm", "linear")
_AUTOCAST_OFF = """\
with torch.autocast(device_type=rendering.device.type, enabled=False):
    return ssim_loss(rendering.float(), target.float(), mask.float())"""


@dataclass(frozen=True)
class Advice:
    """One cause.

    Attributes:
        why: what was seen, in sentences.
        change: what to change; empty where none is known.
        code: how, to be copied; empty for none.
    """

    why: str
    change: str = ""
    code: str = ""


def advice(cell: Mapping[str, Any]) -> list[Advice]:
    """Of one violated cell of a report; none where nothing is known."""
    evidence = cell.get("evidence") or {}
    if evidence.get("timeline"):
        return _of_a_step(cell, evidence["timeline"])
    rounding = evidence.get("rounding")
    return [] if not rounding else list(_of_a_loss(cell, evidence, rounding))


def _of_a_loss(cell: Mapping[str, Any], evidence: Mapping[str, Any], rounding: Mapping[str, Any]) -> Sequence[Advice]:
    first, half = rounding["first"], rounding["half"]
    faulty = cell["level"] in ("fault", "definition")
    found = []
    if half is not None and first is not None:
        found.append(_in_half(cell["precision"], half, first))
    elif first is not None:
        found.append(Advice(_beyond(first)))
    if mixed := _mixed(rounding):
        found.append(mixed)
    if rounding["cancellations"] and not (half and faulty):
        found.append(_cancels(rounding["cancellations"][0]))
    if half is not None and rounding["result dtype"] in _HALVES:
        change = "Return the loss in float32: cast the images, not the result."
        found.append(Advice(f"The loss itself is {rounding['result dtype']}, which has a few digits only.", change))
    if rounding["clamps"] and _dead(evidence):
        clamp = rounding["clamps"][0]
        why = f"{_named(clamp)} cuts the value off; beyond its bounds the gradient is exactly zero."
        change = "Mend the value instead of hiding it; then no clamp is needed."
        found.append(Advice(why, change))
    if evidence.get("has graph") is False:
        change = "Keep it a tensor of autograd: no .item(), .detach(), torch.no_grad() or torch.tensor(…) on the way."
        found.append(Advice("The loss has no graph: backward() would raise.", change))
    return found


def _in_half(precision: str, half: Mapping[str, Any], first: Mapping[str, Any]) -> Advice:
    same = half["index"] == first["index"]
    named = _named(half)
    why = f"{named[:1].upper()}{named[1:]} computes in {half['gives']}."
    why += f" {_off(first)}" if same else f" {_beyond(first)}"
    if "autocast" in precision or "cuda-policy" in precision:
        op = "convolutions" if half["op"] in _MULTIPLIES else f"{half['op']} and what follows"
        change = f"Autocast is what casts the {op} down. Switch it off in the loss, and compute in float32:"
        return Advice(why, change, _AUTOCAST_OFF)
    return Advice(why, "Cast to float32 at the loss' beginning: rendering.float(), target.float().")


def _mixed(rounding: Mapping[str, Any]) -> Advice | None:
    """Numbers that should be one, of which autocast has computed one in float32 and another in half precision."""
    for mismatch in rounding["mismatches"]:
        # One op of each dtype.
        apart = list({op["gives"]: op for op in reversed(mismatch["ops"])}.values())
        if len(apart) > 1:
            ops = " and ".join(f"{_named(op)} in {op['gives']}" for op in apart[:2])
            change = "Compute all of them in float32, with autocast off."
            if any(op["op"] == "pow" for op in mismatch["ops"]):
                change = "CUDA's autocast runs pow in float32, and leaves mul in what it gets: write x * x. " + change
            return Advice(f"These should be the same number and are not: {ops}.", change)
    return None


def _cancels(op: Mapping[str, Any]) -> Advice:
    why = f"{_named(op)} subtracts numbers of nearly equal size and loses {float(op['digits']):.1f} decimal digits."
    change = (
        "SSIM by the textbook subtracts a squared mean from a mean of squares. In the difference form nothing is "
        "subtracted from its like: 1 − SSIM = a + b − a·b, with a = m²/L and b = v/S, where m and v are the mean and "
        "variance of x − y, and L and S the denominators of SSIM's two factors."
    )
    return Advice(why, change)


def _dead(evidence: Mapping[str, Any]) -> bool:
    norm, true = evidence.get("gradient norm"), evidence.get("true gradient norm")
    return norm == 0 and isinstance(true, (int, float)) and true > 0


def _of_a_step(cell: Mapping[str, Any], timeline: Sequence[Mapping[str, Any]]) -> list[Advice]:
    last, message = timeline[-1], cell["message"]
    for told, change, code in _STEPS:
        if told in message:
            return [Advice(_what_was_right(last), change, code)]
    return [Advice(_what_was_right(last))]


def _what_was_right(row: Mapping[str, Any]) -> str:
    should = "must move" if row["should step"] else "must stay as they are"
    why = f" ({row['why']})" if row.get("why") else ""
    return f"After “{row['action']}” the parameters {should}{why}."


# By what the violation's sentence has in it.
_STEPS = (
    (
        "No inf checks were recorded",
        "GradScaler.step() or update() was called though unscale_() or step() had seen no gradients of this window. "
        "Drop such a window before it: clear the gradients and touch neither scaler nor schedule.",
        "if not torch.isfinite(loss) or all(p.grad is None for p in parameters):\n"
        "    optimizer.zero_grad(set_to_none=True)\n"
        "    return",
    ),
    (
        "unscale_() has already been called",
        "After unscale_() comes update() before the next window, whether or not the step was taken.",
        "scaler.unscale_(optimizer)\n...\nif good:\n    scaler.step(optimizer)\nscaler.update()",
    ),
    (
        "the schedule stands at step",
        "Move the schedule where the optimizer has moved the parameters, and nowhere else.",
        "before = scaler.get_scale()\nscaler.step(optimizer)\nscaler.update()\n"
        "if scaler.get_scale() >= before:\n    scheduler.step()",
    ),
    (
        "the parameters moved, though",
        "Look at the gradients, not at the loss alone: where the norm is NaN or inf, drop the window.",
        "norm = torch.nn.utils.clip_grad_norm_(parameters, limit)\nif torch.isfinite(norm):\n    optimizer.step()",
    ),
    (
        "the parameters have been updated",
        "Count an update where one has happened: GradScaler.step() skips a window of inf gradients and says nothing.",
        "",
    ),
)


def _beyond(op: Mapping[str, Any]) -> str:
    return f"The first op whose error is beyond its dtype is {_named(op)}: {_off(op)[:1].lower()}{_off(op)[1:]}"


def _off(op: Mapping[str, Any]) -> str:
    return f"Off by {_figure(op['error'])}, where roundings should give at most {_figure(op['expected'])}."


def _named(op: Mapping[str, Any]) -> str:
    where = f", {op['where']}" if op["where"] else ""
    return f"{op['op']} (op {op['index']}{where})"


def _figure(value: Any) -> str:
    return f"{float(value):.3g}"
