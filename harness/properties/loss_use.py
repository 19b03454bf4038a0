"""How the loss behaves as a function: effects, repetition, bad input."""

from __future__ import annotations

import warnings
from dataclasses import replace

import torch

from harness.cases.descriptors import Flaw
from harness.cases.tensors import MaskedPair
from harness.errors import SubjectError
from harness.properties.trial import LossTrial
from harness.properties.verdict import VACUOUS, Verdict, holds_if
from harness.protocols import LossKind


def side_effects(trial: LossTrial) -> Verdict:
    pair = trial.pair
    tensors = {"rendering": pair.rendering, "target": pair.target, "mask": pair.mask}
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    random_state = torch.random.get_rng_state()
    trial.measure(pair)
    changed = [name for name, tensor in tensors.items() if not torch.equal(tensor, before[name])]
    if changed:
        return holds_if(False, f"the call changed its {', '.join(changed)}")
    if not torch.equal(torch.random.get_rng_state(), random_state):
        return holds_if(False, "the call drew from torch's global random numbers")
    with trial.precision.context():
        inside = _modes()
        trial.subject(pair.rendering, pair.target, pair.mask)
        after = _modes()
    return holds_if(inside == after, f"the call left autocast and gradient modes as {after}, not {inside}")


def repeatable(trial: LossTrial) -> Verdict:
    first, second = trial.measure(trial.pair), trial.measure(trial.pair)
    same = first.value == second.value and torch.equal(first.gradient, second.gradient)
    both_nan = first.value != first.value and second.value != second.value
    return holds_if(same or both_nan, f"the same call gave {first.value!r}, then {second.value!r}")


def bad_input(trial: LossTrial) -> Verdict:
    flaw = trial.case.flaw
    assert flaw is not None, "cases of this property carry a flaw"
    if flaw is Flaw.MASK_SHAPE and trial.subject.kind is LossKind.BARE:
        return VACUOUS
    pair = _spoilt(trial.pair, flaw)
    try:
        # A library may warn and go on, which is just what must not happen.
        with warnings.catch_warnings(), trial.precision.context():
            warnings.simplefilter("ignore")
            value = trial.subject(pair.rendering, pair.target, pair.mask)
    except (ValueError, TypeError) as error:
        return holds_if(bool(str(error).strip()), f"{flaw.value}: {type(error).__name__} without a word")
    except SubjectError:
        raise
    except Exception as error:
        first_line = (str(error).splitlines() or [""])[0]
        return holds_if(False, f"{flaw.value}: raises {type(error).__name__}: {first_line}")
    return holds_if(False, f"{flaw.value}: accepted, with a loss of {float(value.detach()):.4g}")


def _spoilt(pair: MaskedPair, flaw: Flaw) -> MaskedPair:
    if flaw is Flaw.SHAPES_DIFFER:
        return replace(pair, target=pair.target[..., :-1])
    if flaw is Flaw.RANK:
        return MaskedPair(pair.rendering[0], pair.target[0], pair.mask[0])
    if flaw is Flaw.INTEGER:
        return replace(
            pair,
            rendering=(pair.rendering * 255).to(torch.uint8),
            target=(pair.target * 255).to(torch.uint8),
        )
    if flaw is Flaw.NAN:
        rendering = pair.rendering.masked_fill(pair.mask > 0.5, float("nan"))
        return replace(pair, rendering=rendering)
    if flaw is Flaw.SMALL:
        return MaskedPair(pair.rendering[..., :10, :], pair.target[..., :10, :], pair.mask[..., :10, :])
    return replace(pair, mask=pair.mask[..., :-1])


def _modes() -> dict[str, object]:
    modes: dict[str, object] = {"gradients": torch.is_grad_enabled()}
    for device in ("cpu", "cuda"):
        modes[f"{device} autocast"] = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    return modes
