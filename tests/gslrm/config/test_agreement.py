"""What settings say of other parts of the package is what those parts say themselves."""

from __future__ import annotations

from typing import get_args

from gslrm.config import data, losses, whole
from gslrm.data.images import COLOURS
from gslrm.model.gaussian_window import WINDOW_SIZE
from gslrm.model.ssim_textbook import MS_SSIM_SMALLEST_SIDE
from gslrm.model.tried_losses import MASKED_LOSSES, Variant


def test_ssim_variants_are_those_of_the_loss() -> None:
    assert set(get_args(losses.SsimVariant)) == set(get_args(Variant)) == set(MASKED_LOSSES)
    assert whole.SSIM_SMALLEST_SIDE == WINDOW_SIZE
    assert whole.MS_SSIM_SMALLEST_SIDE == MS_SSIM_SMALLEST_SIDE


def test_colours_are_those_of_the_images() -> None:
    assert set(get_args(data.ColourName)) == set(COLOURS)
