"""A loss in float64, the first witness: which definition it fits there, and its own values where it fits none."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from harness.cases.loss_inputs import LossInputs, MaskedPair
from harness.errors import SubjectError, describe_exception, reraise_unless_subjects
from harness.oracle.definitions import DEFINITIONS, POOLED, Counting, LossDefinition
from harness.oracle.form_fitting import FITS, Fit, fitting
from harness.oracle.levels import PLAIN_NOISE, SSIM_VALUE_NOISE
from harness.oracle.masked_ssim import C2
from harness.oracle.probe_pairs import SIDES, TOGETHER, probe_pairs
from harness.oracle.ssim_forms import Combination, Shown
from harness.oracle.truth import Truth, differentiated
from harness.protocols import LossKind
from harness.subject_spec import DEFAULT_TRUTH
from harness.subjects.oddities import oddities

if TYPE_CHECKING:
    from harness.subjects.adapted_loss import AdaptedLoss

# What a loss that computes in float32 whatever it is given may leave over.
_FITS_FLOAT32 = 5e-4
_OWN = "its own float64"
# What the probes' images are of.
_RANGE = 1.0


@dataclass(frozen=True)
class HeldTo:
    """What a loss is held to.

    Attributes:
        definition: named by the user, found, or made of the loss's own float64.
        sentence: what there is to be said of it; empty where it is what was expected.
        another: it is none that was expected, which is a finding of the level ``definition``.
    """

    definition: LossDefinition
    sentence: str = ""
    another: bool = False


def found_out(loss: AdaptedLoss) -> HeldTo:
    """The definition that the loss's float64 values fit, on ten pairs of 16×16 pixels.

    Raises:
        SubjectError: the loss is one on points, whose definition must be named.
    """
    default, kind = DEFINITIONS[DEFAULT_TRUTH], loss.kind
    if kind is LossKind.POINTS:
        others = ", ".join(d.name for d in DEFINITIONS.values() if d.on_points)
        raise SubjectError(
            f"{loss.name.spec} is a loss on points, and can be one of several: name one of {others} with --truth."
        )
    probes = probe_pairs()
    try:
        witness = Witness(loss)
        values, exact = _values(witness, probes)
    except BaseException as error:
        reraise_unless_subjects(error)
        return HeldTo(
            default,
            f"It can't be run in float64 ({describe_exception(error)}), so what it is couldn't be found out: held to "
            f"{default.name}.",
        )
    tolerance, together = FITS if exact else _FITS_FLOAT32, _of_batch(witness, probes)
    of_images: HeldTo | None = None
    for name in (DEFAULT_TRUTH, *(n for n, d in DEFINITIONS.items() if _is_candidate(d, kind))):
        definition = DEFINITIONS[name]
        left_over = _error(definition, kind, probes, values)
        if left_over <= tolerance:
            held = _known(definition, default, left_over, exact)
            if not definition.counts_pixels or _fits_batch(definition, probes, together, tolerance):
                return held
            # Of images one by one it is this, and another may be that of a batch too.
            of_images = of_images or held
    fit, nearest = fitting(probes, values, kind is LossKind.MASKED, tolerance)
    if fit is None:
        return of_images or _own(witness, values, nearest, exact, _oddities(witness, probes, kind))
    held = _of_fit(fit, kind, values, probes, exact)
    if fit.combination.form.shown is not Shown.CENTRES:
        return of_images or held
    form = replace(fit.combination.form, pooled=True)
    pooled = _of_fit(replace(fit, combination=replace(fit.combination, form=form)), kind, values, probes, exact)
    fits = (one for one in (held, pooled) if _fits_batch(one.definition, probes, together, tolerance))
    return next(fits, of_images or held)


class Witness:
    """The loss called with float64 tensors; a module is copied and made float64 first."""

    def __init__(self, loss: AdaptedLoss) -> None:
        function = loss.function
        if isinstance(function, nn.Module):
            function = copy.deepcopy(function).double()
        self._loss = replace(loss, function=function)
        self.dtype = torch.float64

    def __call__(self, *inputs: Tensor) -> Tensor:
        value = self._loss.returned(*inputs)
        self.dtype = value.dtype
        if self._loss.name.similarity:
            value = 1.0 - value
        return value * self._loss.name.scale


def _values(witness: Witness, probes: MaskedPair) -> tuple[list[float], bool]:
    """Of each probe, and whether they came out in float64."""
    values, exact = [], True
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        for index in range(len(probes.mask)):
            value = witness(*(t[index : index + 1].clone() for t in probes.tensors()))
            values.append(float(value))
            exact &= witness.dtype == torch.float64
    return values, exact


def _of_batch(witness: Witness, probes: MaskedPair) -> float:
    """Of two probes with different numbers of pixels to count; NaN where it raises, which is for properties to tell."""
    try:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            return float(witness(*(tensor[TOGETHER].clone() for tensor in probes.tensors())))
    except BaseException as error:
        reraise_unless_subjects(error)
        return math.nan


def _fits_batch(definition: LossDefinition, probes: MaskedPair, together: float, tolerance: float) -> bool:
    truth = definition.truth(probes.mapped(lambda tensor: tensor[TOGETHER])).value
    return abs(truth - together) <= tolerance * (abs(truth) or 1.0)


def _is_candidate(definition: LossDefinition, kind: LossKind) -> bool:
    if definition.on_points or definition.needs_convolutions or definition.smallest_side > min(SIDES):
        return False
    return kind is LossKind.MASKED or definition.counting is Counting.ALL


def _error(definition: LossDefinition, kind: LossKind, probes: MaskedPair, values: Sequence[float]) -> float:
    """The largest error that the definition leaves, of the values' size."""
    largest = 0.0
    size = max((abs(v) for v in values if math.isfinite(v)), default=0.0) or 1.0
    if kind is LossKind.BARE:
        probes = MaskedPair(probes.rendering, probes.target, torch.ones_like(probes.mask))
    for index, value in enumerate(values):
        one = probes.mapped(lambda t, i=index: t[i : i + 1])  # type: ignore[misc]
        error = abs(definition.truth(one).value - value) / size
        if not error <= _FITS_FLOAT32:
            return math.inf
        largest = max(largest, error)
    return largest


def _known(definition: LossDefinition, default: LossDefinition, error: float, exact: bool) -> HeldTo:
    if definition is default:
        return HeldTo(definition)
    return HeldTo(definition, _another(f"{definition.name} ({definition.formula})", error, exact), another=True)


def _another(what: str, error: float, exact: bool) -> str:
    where = "In float64 this is" if exact else "This is (it computes in float32 whatever it is given)"
    return f"{where} another loss than {DEFAULT_TRUTH}: {what} fits to {error:.0e}, and it is held to that."


def _of_fit(fit: Fit, kind: LossKind, values: Sequence[float], probes: MaskedPair, exact: bool) -> HeldTo:
    found = fit.combination
    bare = kind is LossKind.BARE
    what = found.formula + (f", {found.form.words}" if found.similarity else f" {found.form.of_pixels}")
    sentence = _another(what, fit.error, exact)
    if found.constant == 0.0 and found.similarity == 1.0 and not found.absolute and not found.squared:
        sentence += " It gives 1 for equal images: if that is meant to be minimised as 1 − value, say --similarity."
    if found.similarity and found.form.constants.data_range > _RANGE:
        sentence += (
            f" Its images were from 0 to {_RANGE:g}: if it is to be trained on such, give it a data range of "
            f"{_RANGE:g}; if on others, hand it those."
        )
    return HeldTo(_definition(found, bare, what), sentence, another=True)


def _definition(found: Combination, bare: bool, what: str) -> LossDefinition:
    # What a bare loss is handed is composited by the harness, as its caller would.
    composited = bare or found.form.shown in (Shown.GREY, Shown.BLACK, Shown.WHITE)
    form = replace(found.form, shown=Shown.GREY) if bare else found.form
    plain = (found.constant, found.similarity, found.absolute, found.squared) == (1.0, -1.0, 0.0, 0.0)
    return LossDefinition(
        what,
        what,
        replace(found, form=form).truth,
        upper=found.upper,
        lower=found.lower,
        scale=abs(found.similarity) * _share_of_noise(found) or max(abs(found.absolute), abs(found.squared)),
        subtracts=found.similarity != 0.0,
        window=found.form.size,
        uniform=not found.form.gaussian,
        counting=Counting.COMPOSITED if composited else Counting.ALL,
        one_minus="SSIM" if plain else "",
        zero_at_identity=found.zero_at_identity,
        beyond=True,
        smallest_side=found.form.smallest_side if found.similarity else 1,
        pooling=POOLED if found.form.pooled else "",
    )


def _oddities(witness: Witness, probes: MaskedPair, kind: LossKind) -> tuple[str, ...]:
    try:
        return oddities(witness, probes, kind is LossKind.MASKED)
    except BaseException as error:
        reraise_unless_subjects(error)
        asked = "a gradient, a mask that hides nothing or a batch of two"
        return (f"asked for {asked}, it raises {describe_exception(error)}",)


def _share_of_noise(found: Combination) -> float:
    """Errors of variances are divided by C2; but 1 − SSIM is itself rounded, as any loss is."""
    return min(1.0, max(C2 / found.form.constants.c2, PLAIN_NOISE / SSIM_VALUE_NOISE))


def _own(witness: Witness, values: Sequence[float], nearest: Fit | None, exact: bool, seen: Sequence[str]) -> HeldTo:
    unknown = f"not known of a loss that is held to {_OWN}"
    near = (
        ""
        if nearest is None
        else f" (nearest: {nearest.combination.formula}, {nearest.combination.form.words}, off by {nearest.error:.0e})"
    )
    sizes = [abs(value) for value in values if math.isfinite(value)]

    def truth(inputs: LossInputs) -> Truth:
        with torch.autocast("cpu", enabled=False):
            return differentiated(inputs, witness)

    definition = LossDefinition(
        _OWN,
        "what it computes itself in float64",
        truth,
        lower=-math.inf,
        scale=max(1.0, *sizes) if sizes else 1.0,
        subtracts=True,
        beyond=True,
        zero_at_identity=False,
        asymmetry=unknown,
        pooling=unknown,
    )
    aside = "" if exact else " It computes in float32 whatever it is given, so even that is rounded."
    odd = f" Seen of it: {'; '.join(seen)}." if seen else ""
    return HeldTo(
        definition,
        f"In float64 this is none of the losses that the harness knows{near}: it is held to {_OWN}, so its precision "
        f"is judged, and not whether it is the loss that was meant.{aside}{odd} Name what it is meant to be with "
        f"--truth.",
        another=True,
    )
