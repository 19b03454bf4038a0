"""Where to look for a case on which a loss does worse than on another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from random import Random
from typing import Any

from harness.cases.descriptors import LossCase, Mask, MaskKind, Perturbation, PerturbationKind, Picture, PictureKind
from harness.cases.pictures import PHOTOGRAPHS
from harness.cases.strategies import MAGNITUDES, NEAR_IDENTICAL
from harness.oracle.definitions import LossDefinition

# What a mask's pixels are multiplied by.
_MASK_STEPS = (0.5, 0.8, 1.25, 2.0)
# By which flat greys differ: half precision sees it, and calls them nearly equal.
_OFFSETS = (1e-3, 1e-2)
_GREYS = 256
# Of each photograph, pairs of crops, and their side in pixels.
_CROPS, _CROP_SIDE = 3, 192
# What is added to a side, at most.
_VARIES_BY = 2


def varied_losses(cases: Mapping[str, Any], definition: LossDefinition) -> Callable[[LossCase, Random], LossCase]:
    """One image of the smallest size or thereabouts, of few windows to take the mean of; where edges are padded, also
    one of which they are the smaller part; other random numbers; and now and then another mask, another perturbation,
    another grey, or flat grey in place of a picture, mostly beside another flat grey.
    """
    sides = _sides(cases, definition)
    magnitudes = cases.get("magnitudes", MAGNITUDES)
    greys = _may_be_grey_beside_grey(cases)

    def varied(case: LossCase, numbers: Random) -> LossCase:
        other = replace(case, batch=cases["fewest_images"], views=1, seed=numbers.randrange(10_000))
        if numbers.random() < 0.5:
            side = numbers.choice(sides)
            height, width = (side + numbers.randrange(_VARIES_BY + 1) for _ in range(2))
            other = replace(other, height=height, width=width)
        if numbers.random() < 0.3:
            other = replace(
                other, mask=replace(case.mask, pixels=max(1, int(case.mask.pixels * numbers.choice(_MASK_STEPS))))
            )
        if numbers.random() < 0.3:
            nearest = min(range(len(magnitudes)), key=lambda i: abs(magnitudes[i] - case.perturbation.magnitude))
            beside = magnitudes[min(max(nearest + numbers.choice((-2, -1, 1, 2)), 0), len(magnitudes) - 1)]
            other = replace(other, perturbation=replace(case.perturbation, magnitude=beside))
        if numbers.random() < 0.2:
            other = replace(
                other, perturbation=replace(other.perturbation, kind=numbers.choice(cases["perturbations"]))
            )
        if numbers.random() < 0.2:
            other = replace(other, mask=replace(other.mask, kind=numbers.choice(cases["masks"])))
        if numbers.random() < 0.35 and case.picture.kind is not PictureKind.FILE:
            other = replace(other, picture=Picture(PictureKind.FLAT, numbers.randrange(256)))
            if greys and numbers.random() < 0.7:
                offset = Perturbation(PerturbationKind.OFFSET, numbers.choice(magnitudes))
                other = replace(other, mask=replace(case.mask, kind=MaskKind.FULL), perturbation=offset)
            return other
        if numbers.random() < 0.3:
            level = min(max(case.picture.level + numbers.randrange(-8, 9), 0), 255)
            other = replace(other, picture=replace(case.picture, level=level))
        return other

    return varied


def losses_beside(cases: Mapping[str, Any], definition: LossDefinition) -> Callable[[LossCase], Iterator[LossCase]]:
    """A few large crops of photographs beside other crops, the case with every grey in place of its picture, every
    small grey beside one that is a little brighter, and the case with every magnitude of its perturbation.

    In half precision a denominator is 0 at one window of photographs in a few hundred thousand. Of flat greys it comes
    near to 0 at single ones, so those that half precision can tell apart are all tried. Of a large case there are the
    small greys only, which are equal where a property wants equal images; a user's own pictures stay.
    """
    side = max(_sides(cases, definition))
    flat = LossCase(
        side, side, cases["fewest_images"], 1, picture=Picture(PictureKind.FLAT, 0), mask=Mask(MaskKind.FULL)
    )
    beside_another = [Perturbation(PerturbationKind.OFFSET, offset) for offset in _OFFSETS]

    def beside(case: LossCase) -> Iterator[LossCase]:
        small = max(case.height, case.width) <= side + _VARIES_BY
        starts = []
        if case.picture.kind is not PictureKind.FILE:
            yield from _crops(cases)
            if small and case.picture.kind is PictureKind.FLAT:
                starts.append(case)
            if _may_be_grey_beside_grey(cases):
                starts += [replace(flat, perturbation=change) for change in beside_another]
            elif not starts:
                starts.append(replace(flat, mask=case.mask, perturbation=case.perturbation))
        for start in starts:
            for level in range(_GREYS):
                yield replace(start, picture=Picture(PictureKind.FLAT, level))
        if small and case.perturbation.kind in NEAR_IDENTICAL:
            for magnitude in cases.get("magnitudes", MAGNITUDES):
                yield replace(case, perturbation=replace(case.perturbation, magnitude=magnitude))

    return beside


def _crops(cases: Mapping[str, Any]) -> Iterator[LossCase]:
    if PerturbationKind.UNRELATED in cases["perturbations"] and MaskKind.FULL in cases["masks"]:
        crop = LossCase(
            _CROP_SIDE,
            _CROP_SIDE,
            cases["fewest_images"],
            1,
            mask=Mask(MaskKind.FULL),
            perturbation=Perturbation(PerturbationKind.UNRELATED),
        )
        for seed in range(_CROPS):
            for name in PHOTOGRAPHS:
                yield replace(crop, picture=Picture(PictureKind.PHOTO, 0, name), seed=seed)


def _sides(cases: Mapping[str, Any], definition: LossDefinition) -> tuple[int, ...]:
    """Of few windows to take the mean of; where edges are padded, also one of which they are the smaller part."""
    least = cases["smallest_side"]
    return (least, max(least, 3 * definition.window)) if definition.smallest_side < definition.window else (least,)


def _may_be_grey_beside_grey(cases: Mapping[str, Any]) -> bool:
    return PerturbationKind.OFFSET in cases["perturbations"] and MaskKind.FULL in cases["masks"]
