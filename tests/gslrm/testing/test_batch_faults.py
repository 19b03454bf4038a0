from __future__ import annotations

import pytest
import torch

from gslrm.config import load_config
from gslrm.data.synthetic import synthetic_scene
from gslrm.data.views import ViewBatch
from gslrm.testing.batch_faults import Fault, spoil
from gslrm.training.sampling import Sampler


@pytest.fixture(scope="module")
def batch() -> ViewBatch:
    return Sampler([synthetic_scene(6, 16)], load_config("tiny").training.dataset).batch(0)


@pytest.mark.parametrize("fault", list(Fault))
def test_faults_are_what_they_say_and_leave_the_original(batch: ViewBatch, fault: Fault) -> None:
    before = batch.images.clone()
    spoilt = spoil(batch, fault)
    assert torch.equal(batch.images, before)
    assert not torch.equal(spoilt.images, before)
    if fault is Fault.ONE_PIXEL:
        assert spoilt.images[:, :, 3].sum() == spoilt.images.shape[1]
