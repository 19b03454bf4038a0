"""Which cases are drawn follows from what a loss is meant to be."""

from __future__ import annotations

import pytest

from harness.cases.descriptors import Flaw, MaskKind
from harness.cases.strategies import DRAWN_MASKS, MAGNITUDES
from harness.oracle.definitions import DEFINITIONS
from harness.properties import sampling

_SIDES = {"ms-ssim": (161, 161), "perceptual": (16, 20)}
_BLIND_TO_SMALL_DIFFERENCES = {"perceptual", "pixel-alignment", "masked-pixel-alignment"}
_WITHOUT_MASK = {"ssim", "zero-padded-ssim", "mse", "perceptual", "pixel-alignment", "points-distance"}
_WITHOUT_SMALLEST_SIZE = {
    "zero-padded-ssim",
    "l1", "l2", "mse", "masked-mse", "background", "pixel-alignment", "masked-pixel-alignment", "points-distance",
}  # fmt: skip


@pytest.mark.parametrize("name", DEFINITIONS)
def test_sides_are_those_that_the_loss_takes_and_its_oracle_has_time_for(name: str) -> None:
    assert sampling.sides(DEFINITIONS[name]) == _SIDES.get(name, (11, 40))


@pytest.mark.parametrize("name", DEFINITIONS)
def test_differences_are_above_what_float32_can_tell(name: str) -> None:
    drawn = sampling.magnitudes(DEFINITIONS[name])
    assert drawn[0] == MAGNITUDES[0] == 0.1
    assert drawn[-1] == (1e-3 if name in _BLIND_TO_SMALL_DIFFERENCES else 1e-7)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_masks_leave_a_loss_of_the_background_as_much_of_it(name: str) -> None:
    assert sampling.masks(DEFINITIONS[name], (MaskKind.DISC,)) == (MaskKind.DISC,)
    assert set(sampling.masks(DEFINITIONS[name], DRAWN_MASKS)) == set(DRAWN_MASKS)
    full = sampling.masks(DEFINITIONS[name], (MaskKind.FULL,))
    assert full == ((MaskKind.EMPTY,) if name == "background" else (MaskKind.FULL,))


@pytest.mark.parametrize("name", DEFINITIONS)
def test_only_what_the_loss_must_notice_is_a_flaw(name: str) -> None:
    missing = set(Flaw) - set(sampling.flaws(DEFINITIONS[name], tuple(Flaw)))
    assert (Flaw.SMALL in missing) is (name in _WITHOUT_SMALLEST_SIZE)
    assert (Flaw.MASK_SHAPE in missing) is (name in _WITHOUT_MASK)
    assert missing <= {Flaw.SMALL, Flaw.MASK_SHAPE}
    assert sampling.flaws(DEFINITIONS[name], (None,)) == (None,)
