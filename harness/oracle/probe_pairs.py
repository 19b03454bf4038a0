"""A few masked pairs on which losses of different definitions have different values."""

from __future__ import annotations

import torch

from harness.cases.descriptors import LossCase, Mask, MaskKind, Perturbation, PerturbationKind, Picture, PictureKind
from harness.cases.loss_inputs import MaskedPair
from harness.cases.tensors import build_pair

SIDES = (16, 16)
"""Height and width, pixels: of the size on which a loss is tried out first."""

TOGETHER = [0, 3]
"""Two whose masks show different numbers of pixels, for a batch."""
_P = PerturbationKind
_PAIRS = (
    (PictureKind.TEXTURE, MaskKind.BLOB, Perturbation(_P.NOISE, 0.3)),
    (PictureKind.TEXTURE, MaskKind.DISC, Perturbation(_P.UNRELATED)),
    (PictureKind.SMOOTH, MaskKind.BLOB, Perturbation(_P.NOISE, 0.05)),
    (PictureKind.TEXTURE, MaskKind.FULL, Perturbation(_P.ANTICORRELATED)),
    (PictureKind.SMOOTH, MaskKind.ISLANDS, Perturbation(_P.OFFSET, 0.1)),
    (PictureKind.TEXTURE, MaskKind.BORDER, Perturbation(_P.SHIFT, 1.0)),
    (PictureKind.SMOOTH, MaskKind.DISC, Perturbation(_P.ANTICORRELATED)),
    (PictureKind.TEXTURE, MaskKind.BLOB, Perturbation(_P.BLUR, 1.0)),
    (PictureKind.SMOOTH, MaskKind.FULL, Perturbation(_P.UNRELATED)),
    (PictureKind.FLAT, MaskKind.BLOB, Perturbation(_P.NOISE, 0.1)),
)


def probe_pairs() -> MaskedPair:
    """Ten pairs of 16×16 pixels as one batch in float64; a loss is called on each by itself."""
    height, width = SIDES
    pairs = [
        build_pair(LossCase(height, width, 1, 1, seed, Picture(picture), Mask(mask, height * width // 3), perturbation))
        for seed, (picture, mask, perturbation) in enumerate(_PAIRS)
    ]
    return MaskedPair(*(torch.cat([p.tensors()[i] for p in pairs]).double() for i in range(3)))
