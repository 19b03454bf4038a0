"""Losses: called on masked pairs of images, or on maps of points."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from enum import Enum
from typing import Any

from hypothesis.strategies import SearchStrategy

from harness.cases.descriptors import (
    Hidden,
    LossCase,
    Mask,
    MaskKind,
    MaskValues,
    Perturbation,
    PerturbationKind,
    Picture,
    PictureKind,
)
from harness.cases.image_folder import ImageFolder
from harness.cases.loss_inputs import MaskedPair
from harness.cases.strategies import LARGEST_SIDE, NEAR_IDENTICAL, SMALLEST_SIDE, loss_cases
from harness.errors import UsageError
from harness.kinds.kind import Bench, Judged, Kind, SearchPlan, Starting, verdict_of
from harness.kinds.loss_evidence import LossUnderCase, loss_evidence
from harness.kinds.worse_losses import losses_beside, varied_losses
from harness.oracle.levels import Level
from harness.precision import Precision
from harness.properties import LOSS_PROPERTIES, LossProperty
from harness.properties.verdict import VACUOUS, Verdict, holds_if
from harness.protocols import LossSubject
from harness.subject_spec import SubjectKind, SubjectSpec
from harness.subjects.adapted_loss import AdaptedLoss
from harness.subjects.loss import adapt_loss
from harness.trials.known_inputs import KnownInputs
from harness.trials.loss_trial import LossTrial

# What a person can take in at a glance, and how many such cases are tried where shrinking didn't get there.
_SMALL_SIDE = 16
# Drawn cases that are run after a fault, to find a worse one.
_AFTER_FAULT = 20
_SMALL_CASES = 400
_NEARBY_SEEDS = 40
# The property that says of a loss which refuses values beyond [0, 1] that it does: the others would say the same.
_TELLS_OF_REFUSALS = "finite"
_WITHOUT_MAGNITUDE = (
    PerturbationKind.UNRELATED,
    PerturbationKind.ANTICORRELATED,
    PerturbationKind.OVERSHOOT,
    PerturbationKind.PATCH,
)
# As many as a walk's cases have where it doesn't start at a large picture: at most two views of two images.
_ORDINARY_PIXELS = 4 * LARGEST_SIDE**2
# Height and width. They differ in a patch, so that their truths take tenths of a second.
_LARGE = ((512, 512), (11, 512), (512, 11))
_PATCH_PIXELS = 1000
_NEARBY_SIZES = ((11, 11), (11, 14), (14, 11), (13, 13), (16, 16))


class Losses(Kind[LossSubject, LossProperty, LossCase]):
    """Losses of every :class:`harness.protocols.LossKind`."""

    name, role, words = "loss", SubjectKind.LOSS, "the input of a loss"
    cases, properties = LossCase, LOSS_PROPERTIES

    def recognises(self, found: Any) -> bool:
        return True

    def adapt(self, found: Any, name: SubjectSpec, try_out: bool = True) -> AdaptedLoss:
        return adapt_loss(found, name, try_out=try_out)

    def refusal(self, subject: Any) -> str:
        return "" if isinstance(subject, AdaptedLoss) else "it isn't a loss"

    def bench(self, subject: LossSubject, folder: ImageFolder | None) -> LossBench:
        return LossBench(subject, folder)

    def describe(self, case: LossCase) -> str:
        images = f"{case.images} images of " if case.images > 1 else ""
        picture = {
            PictureKind.FLAT: f"flat grey {case.picture.level}/255",
            PictureKind.PHOTO: f"photograph {case.picture.name}",
            PictureKind.FILE: f"picture {case.picture.name}",
        }.get(case.picture.kind, case.picture.kind.value)
        mask = f"{case.mask.kind.value} mask"
        if case.mask.kind in (MaskKind.LINE, MaskKind.DISC, MaskKind.BLOB, MaskKind.BORDER, MaskKind.ISLANDS):
            mask += f" of {case.mask.pixels} px"
        if case.mask.values is not MaskValues.NUMBERS:
            mask += f" ({case.mask.values.value})"
        change = case.perturbation.kind.value
        if case.perturbation.kind is PerturbationKind.NONE:
            change = "identical"
        elif case.perturbation.kind not in _WITHOUT_MAGNITUDE:
            change += f" {case.perturbation.magnitude:g}"
        if case.hidden is not Hidden.NUMBERS:
            change += f", {case.hidden.value} where hidden"
        flaw = f", {case.flaw.value}" if case.flaw else ""
        return f"{images}{case.height}×{case.width}, {picture}, {mask}, {change}{flaw}, seed {case.seed}"


class LossBench(Bench[LossProperty, LossCase]):
    """One loss, held to its definition."""

    def __init__(self, subject: LossSubject, folder: ImageFolder | None = None) -> None:
        self.subject, self.folder = subject, folder
        self._definition = subject.definition
        self._known = KnownInputs(subject.kind, folder)
        self._refuses_beyond = False

    def inapplicable(self, property_: LossProperty) -> str | None:
        if property_.modules_only and self.subject.module is None:
            return property_.modules_only
        return property_.inapplicable(self.subject.kind, self._definition)

    def plan(self, property_: LossProperty, examples: int) -> SearchPlan[LossCase]:
        cases = property_.cases(self._definition)
        small_side = max(_SMALL_SIDE, self._definition.smallest_side)
        names = self.folder.names if self.folder else ()
        count = max(1, round(examples * property_.effort))

        def strategy(**narrower: int) -> SearchStrategy[LossCase]:
            return loss_cases(**{**cases, **narrower}, image_names=names)

        def is_small(case: LossCase) -> bool:
            return max(case.height, case.width) <= small_side and case.images <= property_.fewest_images

        return SearchPlan(
            strategy(),
            count,
            is_small,
            _nearby(property_.fewest_images, cases["smallest_side"]),
            first=(*_one_of_each(cases), *_beyond(cases), *(_large(cases) if property_.large else ())),
            gravest=property_.gravest,
            after_fault=max(_AFTER_FAULT, examples) if property_.searched else _AFTER_FAULT,
            varied=varied_losses(cases, self._definition) if property_.searched else None,
            beside=losses_beside(cases, self._definition) if property_.every_grey and not _is_slow(cases) else None,
            weight=lambda case: max(1.0, case.images * case.height * case.width / _ORDINARY_PIXELS),
            draws=_drawn_from(cases),
            among=max(count, examples),
            any_precision=True,
            small=strategy(largest_side=small_side, most_images=1),
            small_examples=_SMALL_CASES,
        )

    def judge(self, property_: LossProperty, precision: Precision, case: LossCase, starting: Starting) -> Judged:
        starting(case)
        trial, verdict = self._checked(property_, precision, case)
        if self._may_be_rounding(trial, verdict):
            verdict = self._checked(property_, precision, case, rounds_alone=True)[1]
        if case.perturbation.kind is PerturbationKind.OVERSHOOT and not verdict.holds:
            if verdict.raised and property_.name != _TELLS_OF_REFUSALS and self._refuses(property_, precision, case):
                verdict = VACUOUS
            elif math.isfinite(verdict.badness) and not trial.binding and verdict.level is Level.FAULT:
                # Of a definition that was found out it isn't known what it makes of values beyond [0, 1].
                verdict = verdict.at(Level.DEFINITION)
        return Judged(verdict, case)

    def _checked(
        self, property_: LossProperty, precision: Precision, case: LossCase, rounds_alone: bool = False
    ) -> tuple[LossTrial, Verdict]:
        trial = LossTrial(self.subject, precision, case, self.folder, self._known)
        trial.rounds_alone = trial.rounds_alone or rounds_alone
        return trial, verdict_of(lambda: property_.check(trial))

    def _may_be_rounding(self, trial: LossTrial, verdict: Verdict) -> bool:
        """Whether a fault in half precision is one of a loss that computes in float32 all the same, which may round as
        any does.
        """
        if verdict.holds or verdict.level is not Level.FAULT or not math.isfinite(verdict.badness):
            return False
        if trial.rounds_alone or not self._definition.subtracts or not isinstance(trial.inputs, MaskedPair):
            return False
        return verdict_of(lambda: holds_if(trial.computes_in_float32(), "")).holds

    def _refuses(self, property_: LossProperty, precision: Precision, case: LossCase) -> bool:
        """Whether a loss that raises for values beyond [0, 1] does so for them alone."""
        if not self._refuses_beyond:
            within = replace(case, perturbation=Perturbation(PerturbationKind.NOISE, 0.1))
            self._refuses_beyond = not self._checked(property_, precision, within)[1].raised
        return self._refuses_beyond

    def refuse(self, property_: LossProperty, case: LossCase) -> None:
        cases = property_.cases(self._definition)
        masks = {*cases["masks"], *((MaskKind.OWN,) if len(cases["masks"]) > 1 else ())}
        changed = case.perturbation
        near = changed.kind in NEAR_IDENTICAL  # no other kind uses its magnitude
        magnitudes = cases.get("magnitudes", (0.0, 1.0)) if near else (0.0, 1.0)
        least, most = min(magnitudes), max(magnitudes)
        kinds = {*cases["perturbations"], *((PerturbationKind.PATCH,) if property_.large else ())}
        speaks_of = {
            f"a perturbation of kind {changed.kind.value!r}": changed.kind in kinds,
            f"a perturbation of {changed.magnitude:g}": least <= changed.magnitude <= most,
            f"a mask of kind {case.mask.kind.value!r}": case.mask.kind in masks,
            f"a mask of {case.mask.values.value}": case.mask.values in cases["mask_values"],
            f"{case.hidden.value} where the mask hides": case.hidden in cases["hidden"],
            f"{case.images} images": case.images >= cases["fewest_images"],
            f"images of {case.height}×{case.width}": min(case.height, case.width) >= cases["smallest_side"],
            f"the flaw {case.flaw.value!r}" if case.flaw else "a case without a flaw": case.flaw in cases["flaws"],
        }
        for what, said in speaks_of.items():
            if not said:
                raise UsageError(f"the property {property_.name!r} says nothing of {what}: this case can't be judged.")

    def evidence(
        self, property_: LossProperty, precision: Precision, case: LossCase, brief: bool = False
    ) -> Mapping[str, Any] | None:
        if case.flaw is not None:
            return None
        return loss_evidence(LossUnderCase(self.subject, precision, case, self.folder), with_sweep=not brief)


def _drawn_from(cases: Mapping[str, Any]) -> str:
    """What cases of these are called as draws: alike for all properties that take the same."""

    def named(value: Any) -> str:
        if isinstance(value, tuple):
            return ", ".join(map(named, value))
        return str(value.value if isinstance(value, Enum) else value)

    return "; ".join(f"{name}: {named(values)}" for name, values in sorted(cases.items()))


def _one_of_each(cases: Mapping[str, Any]) -> tuple[LossCase, ...]:
    """A small case for each flaw, form of mask and hidden value after the first, and one with a mask that hides all:
    draws may leave one out.
    """
    side = max(_SMALL_SIDE, cases["smallest_side"])
    plain = LossCase(side, side, batch=max(1, cases["fewest_images"]), **_common(cases, 40))
    return (
        *(replace(plain, flaw=flaw) for flaw in cases["flaws"][1:]),
        *(replace(plain, mask=replace(plain.mask, values=values)) for values in cases["mask_values"][1:]),
        *(replace(plain, hidden=hidden) for hidden in cases["hidden"][1:]),
        *(replace(plain, mask=Mask(kind)) for kind in cases["masks"][1:] if kind is MaskKind.EMPTY),
    )


def _common(cases: Mapping[str, Any], pixels: int) -> dict[str, Any]:
    """What the first cases have in common: a texture with noise in it, and a disc of so many pixels."""
    kinds, masks = cases["perturbations"], cases["masks"]
    return {
        "picture": Picture(PictureKind.TEXTURE),
        "mask": Mask(MaskKind.DISC if MaskKind.DISC in masks else masks[0], pixels, cases["mask_values"][0]),
        "perturbation": Perturbation(PerturbationKind.NOISE if PerturbationKind.NOISE in kinds else kinds[0], 0.1),
        "flaw": cases["flaws"][0],
        "hidden": cases["hidden"][0],
    }


def _beyond(cases: Mapping[str, Any]) -> tuple[LossCase, ...]:
    """White beyond 1, a negative, a picture larger than any that is drawn, a batch of eight, one eight times as wide as
    high.
    """
    if _is_slow(cases):
        return ()
    kinds, masks, common = cases["perturbations"], cases["masks"], _common(cases, 300)
    batch = max(1, cases["fewest_images"])
    overshoot: tuple[LossCase, ...] = ()
    if PerturbationKind.OVERSHOOT in kinds:
        white = {"picture": Picture(PictureKind.FLAT, 255), "perturbation": Perturbation(PerturbationKind.OVERSHOOT)}
        overshoot = (LossCase(16, 16, batch, 1, **{**common, **white}),)
    opposite: tuple[LossCase, ...] = ()
    if PerturbationKind.ANTICORRELATED in kinds and MaskKind.FULL in masks:
        change = {
            "mask": replace(common["mask"], kind=MaskKind.FULL),
            "perturbation": Perturbation(PerturbationKind.ANTICORRELATED),
        }
        opposite = (LossCase(16, 16, batch, 1, **{**common, **change}),)
    return (
        *overshoot,
        *opposite,
        LossCase(48, 96, batch, 1, **common),
        LossCase(16, 16, 2, 4, **common),
        LossCase(11, 88, batch, 1, **common),
    )


def _large(cases: Mapping[str, Any]) -> tuple[LossCase, ...]:
    """Pictures of the size that trainings have, and as long as these but as narrow as a window."""
    if _is_slow(cases):
        return ()
    picture, mask = Picture(PictureKind.TEXTURE), Mask(MaskKind.DISC, _PATCH_PIXELS)
    return tuple(
        LossCase(height, width, picture=picture, mask=mask, perturbation=Perturbation(PerturbationKind.PATCH))
        for height, width in _LARGE
    )


def _is_slow(cases: Mapping[str, Any]) -> bool:
    """Whether the truth of such losses takes long."""
    return bool(cases["largest_side"] < LARGEST_SIDE or cases["smallest_side"] > SMALLEST_SIDE)


def _nearby(images: int, smallest_side: int) -> Callable[[LossCase], Iterator[LossCase]]:
    """The batch's images one by one, then cases like it but of a few small sizes and other seeds.

    Where rounding decides, no path of failing cases need lead from a large one to a small one.
    """

    def candidates(large: LossCase) -> Iterator[LossCase]:
        alone = replace(large, batch=images, views=1)
        for index in range(large.images):
            yield replace(alone, seed=large.seed + index)
        for height, width in _NEARBY_SIZES:
            if min(height, width) >= smallest_side:
                for seed in range(_NEARBY_SEEDS):
                    yield replace(alone, seed=seed, height=height, width=width)

    return candidates
