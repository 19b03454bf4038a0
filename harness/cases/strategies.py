"""Hypothesis strategies for descriptors. The first choice of each is what a failing case shrinks towards."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from harness.cases.descriptors import (
    Action,
    Flaw,
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
from harness.cases.pictures import PHOTOGRAPHS

SMALLEST_SIDE, LARGEST_SIDE = 11, 40

# Log-uniform from 1e-1 to 1e-7, eight to a decade, rounded so that no machine's pow() shows.
MAGNITUDES = tuple(float(f"{10.0 ** (-1.0 - k / 8.0):.3g}") for k in range(49))

NEAR_IDENTICAL = (
    PerturbationKind.OFFSET,
    PerturbationKind.NOISE,
    PerturbationKind.PIXEL,
    PerturbationKind.BLUR,
    PerturbationKind.SHIFT,
)
DIFFERENT = (
    *NEAR_IDENTICAL,
    PerturbationKind.UNRELATED,
    PerturbationKind.ANTICORRELATED,
    PerturbationKind.OVERSHOOT,
)
ALL_PERTURBATIONS = (PerturbationKind.NONE, *DIFFERENT)

DRAWN_MASKS = tuple(kind for kind in MaskKind if kind is not MaskKind.OWN)


def loss_cases(
    *,
    perturbations: Sequence[PerturbationKind] = ALL_PERTURBATIONS,
    masks: Sequence[MaskKind] = DRAWN_MASKS,
    flaws: Sequence[Flaw | None] = (None,),
    fewest_images: int = 1,
    most_images: int = 2,
    magnitudes: Sequence[float] = MAGNITUDES,
    smallest_side: int = SMALLEST_SIDE,
    largest_side: int = LARGEST_SIDE,
    image_names: Sequence[str] = (),
    mask_values: Sequence[MaskValues] = (MaskValues.NUMBERS,),
    hidden: Sequence[Hidden] = (Hidden.NUMBERS,),
) -> st.SearchStrategy[LossCase]:
    """Masked pairs: tiny foregrounds, near-identical and other pairs, any size from 11 up.

    Args:
        perturbations, masks, flaws, mask_values: the kinds to draw from.
        hidden: likewise; half of them are the first.
        fewest_images: smallest batch.
        most_images: largest batch and largest number of views.
        magnitudes: of the perturbations.
        smallest_side, largest_side: in pixels.
        image_names: files of the user's own folder; when given, every picture is one of them.
    """
    if image_names:
        pictures = st.builds(Picture, st.just(PictureKind.FILE), st.just(0), st.sampled_from(list(image_names)))
        masks = (MaskKind.OWN, *masks) if len(masks) > 1 else masks
    else:
        pictures = st.one_of(
            st.builds(Picture, st.just(PictureKind.FLAT), st.integers(0, 255)),
            st.builds(Picture, st.sampled_from((PictureKind.SMOOTH, PictureKind.TEXTURE)), st.just(0)),
            st.builds(Picture, st.just(PictureKind.PHOTO), st.just(0), st.sampled_from(PHOTOGRAPHS)),
        )
    side = st.integers(smallest_side, largest_side)
    # What there is no choice of isn't drawn: a draw more would change all that are drawn with it.
    values = {"values": st.sampled_from(list(mask_values))} if list(mask_values) != [MaskValues.NUMBERS] else {}
    kind, pixels = st.sampled_from(list(masks)), st.integers(1, largest_side**2 // 20)  # up to 5 % of the largest image
    spoilt = (
        {"hidden": st.one_of(st.just(hidden[0]), st.sampled_from(list(hidden)))}
        if list(hidden) != [Hidden.NUMBERS]
        else {}
    )
    return st.builds(
        LossCase,
        height=side,
        width=side,
        batch=st.integers(fewest_images, max(fewest_images, most_images)),
        views=st.integers(1, most_images),
        seed=st.integers(0, 9999),
        picture=pictures,
        mask=st.builds(Mask, kind, pixels, **values),
        perturbation=st.builds(Perturbation, st.sampled_from(list(perturbations)), st.sampled_from(list(magnitudes))),
        flaw=st.sampled_from(list(flaws)),
        **spoilt,
    )


MICRO_STEPS = tuple(action for action in Action if action is not Action.RESTORE)
ACCUMULATIONS = (1, 2, 4)
STEP_ACCUMULATIONS = (*ACCUMULATIONS, 3)
SCALE_EXPONENTS = (10, 3, 16)
STEP_SCALE_EXPONENTS = (*SCALE_EXPONENTS, -2, 24)
# At the largest the gradients of any model overflow float16; at the smallest even huge ones don't.
TRAINING_SCALE_EXPONENTS = (10, 3, 24)
GROWTH_INTERVALS = (2, 3, 2000)
