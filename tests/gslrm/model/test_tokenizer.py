"""Patches: their order, and the way back."""

from __future__ import annotations

import torch

from gslrm.model.tokenizer import Patchify, unpatchify


def test_numbers_are_ordered_by_row_column_and_channel() -> None:
    b, v, c, h, w, p = 2, 3, 9, 6, 8, 2
    images = torch.arange(b * v * c * h * w).view(b, v, c, h, w)
    tokens = Patchify(p)(images)
    assert tokens.shape == (b, v * 3 * 4, p * p * c)
    for view, row, column in ((0, 0, 0), (1, 2, 1), (2, 1, 3)):
        token = tokens[1, (view * 3 + row) * 4 + column]
        for i, j, channel in ((0, 0, 0), (0, 1, 5), (1, 0, 2), (1, 1, 8)):
            expected = images[1, view, channel, row * p + i, column * p + j]
            assert token[(i * p + j) * c + channel] == expected


def test_unpatchify_undoes_patchify() -> None:
    images = torch.arange(2 * 3 * 5 * 4 * 8).view(2, 3, 5, 4, 8)
    assert torch.equal(unpatchify(Patchify(4)(images), 4, 3, 4, 8), images.permute(0, 1, 3, 4, 2))
