"""A whole script for a GPU runs, unmodified, and its scaler does what a scaler does."""

from __future__ import annotations

import math
import runpy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.pretence import pretend_cuda

_SCRIPT = Path(__file__).with_name("tiny_gpt_training.py")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The script's names after its ten iterations, one of which has an infinite loss."""
    with pytest.MonkeyPatch.context() as patch, pretend_cuda(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.chdir(tmp_path_factory.mktemp("script"))
        names = runpy.run_path(str(_SCRIPT), run_name="__main__")
        names["loaded_is_cuda"] = names["loaded"]["model"]["_orig_mod.head.weight"].is_cuda
    return names


def test_its_losses_are_finite_but_for_the_bad_one(ran: dict[str, Any]) -> None:
    finite = [math.isfinite(loss) for loss in ran["losses"]]
    assert finite == [i != ran["bad_iteration"] for i in range(10)]


def test_it_learns(ran: dict[str, Any]) -> None:
    assert ran["losses"][-1] < ran["losses"][0]


def test_autocast_gives_half_precision(ran: dict[str, Any]) -> None:
    assert ran["dtypes"] == {torch.float16}


def test_the_scaler_backs_off_once(ran: dict[str, Any]) -> None:
    bad = ran["bad_iteration"]
    assert ran["scales"] == [65536.0] * bad + [32768.0] * (10 - bad)


def test_the_parameters_move_but_for_the_bad_step(ran: dict[str, Any]) -> None:
    # At the last step but the bad one the rate is small, but not zero.
    assert ran["moved"] == [i != ran["bad_iteration"] for i in range(10)]


def test_the_checkpoint_has_the_scaler_and_loads_onto_the_gpu(ran: dict[str, Any]) -> None:
    assert ran["loaded"]["scaler"]["scale"] == 32768.0
    assert ran["loaded_is_cuda"]


def test_memory_is_counted(ran: dict[str, Any]) -> None:
    weights = sum(p.numel() for p in ran["model"].parameters()) * 4
    assert ran["peak"] > 3 * weights  # with the optimizer's two averages
