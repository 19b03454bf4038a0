"""What settings say of other parts of the package is what those parts say themselves."""

from __future__ import annotations

from typing import get_args

from gslrm.config import data, losses, whole
from gslrm.data.images import COLOURS
from gslrm.model.tried_losses import MASKED_LOSSES


def test_ssim_variants_are_the_masked_losses() -> None:
    assert set(get_args(losses.SsimVariant)) == set(MASKED_LOSSES)
    assert {name: loss.smallest_side for name, loss in MASKED_LOSSES.items()} == whole.SSIM_SMALLEST_SIDES


def test_colours_are_those_of_the_images() -> None:
    assert set(get_args(data.ColourName)) == set(COLOURS)
