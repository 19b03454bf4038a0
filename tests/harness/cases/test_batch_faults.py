from __future__ import annotations

import pytest
import torch

from harness.cases.batch_faults import spoil
from harness.cases.descriptors import PassKind


def _batch(channels: int) -> torch.Tensor:
    images = torch.full((1, 2, channels, 16, 16), 0.25)
    images[:, :, 3:] = 0.0
    images[:, :, 3:, 4:8, 4:8] = 1.0
    return images


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("kind", PassKind)
def test_the_original_is_left_as_it_is(kind: PassKind, channels: int) -> None:
    images = _batch(channels)
    assert spoil(images, kind).shape == images.shape
    assert torch.equal(images, _batch(channels))


@pytest.mark.parametrize("kind", [PassKind.GOOD, PassKind.FROZEN, PassKind.RESTORE])
def test_what_is_no_fault_of_the_batch_leaves_it(kind: PassKind) -> None:
    assert torch.equal(spoil(_batch(4), kind), _batch(4))


def test_each_fault_is_what_it_says() -> None:
    exploding = spoil(_batch(4), PassKind.EXPLODING_VIEW)
    assert float(exploding[:, 1, :3].min()) == 2500.0
    assert torch.equal(exploding[:, 0], _batch(4)[:, 0])
    assert torch.equal(exploding[:, 1, 3:], _batch(4)[:, 1, 3:])
    overflow = spoil(_batch(4), PassKind.OVERFLOW)[:, 0, :3]
    assert bool(overflow.half().isinf().all())
    assert bool(overflow.bfloat16().isfinite().all())
    nan = spoil(_batch(4), PassKind.NAN_PIXELS)
    assert int(nan.isnan().sum()) == 3
    # The pixel is one that the mask shows, though the mask was empty there.
    assert bool((nan[:, 0, 3:].flatten()[nan[:, 0, :1].flatten().isnan()] == 1.0).all())
    assert float(spoil(_batch(4), PassKind.ALL_BACKGROUND)[:, :, 3:].sum()) == 0.0
    assert spoil(_batch(4), PassKind.ONE_PIXEL)[:, :, 3:].sum((2, 3, 4)).tolist() == [[1.0, 1.0]]
