"""A training state that doesn't fit changes nothing of the training that it was meant for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gslrm.config import load_config
from gslrm.model.checkpoint import CheckpointError
from gslrm.training.trainer import Trainer

CONFIG = load_config("tiny", {"training.runtime.amp_dtype": "fp16"})


def _stepped(seed: int) -> Trainer:
    trainer = Trainer(CONFIG)
    generator = torch.Generator().manual_seed(seed)
    for parameter in trainer.model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    trainer.step.optimizer.step()
    return trainer


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("state") / "a.pt"
    _stepped(1).save(path)
    return torch.load(path, weights_only=True)


SPOILED: dict[str, Callable[[Any], Any]] = {
    r"optimizer lacks state": lambda e: e["optimizer"].pop("state"),
    r"param_groups must be a list of 2 groups": lambda e: e["optimizer"]["param_groups"].pop(),
    r"param_groups\[0\]\.lr is nan": lambda e: e["optimizer"]["param_groups"][0].update(lr=float("nan")),
    r"exp_avg has shape \(2,\)": lambda e: e["optimizer"]["state"][0].update(exp_avg=torch.ones(2)),
    r"exp_avg_sq holds a NaN": lambda e: e["optimizer"]["state"][0]["exp_avg_sq"].fill_(torch.nan),
    r"optimizer\.state lacks one of": lambda e: e["optimizer"]["state"][0].pop("step"),
    r"lr_scheduler has an entry 'step'": lambda e: e["lr_scheduler"].update(step=3),
    r"lr_scheduler\.last_epoch is 'x'": lambda e: e["lr_scheduler"].update(last_epoch="x"),
    r"scaler\.scale is -1": lambda e: e["scaler"].update(scale=-1.0),
    r"window\.passes is 99": lambda e: e["window"].update(passes=99),
    r"window\.gradients must be a list": lambda e: e["window"].update(gradients=[]),
    r"window\.gradients\[0\] has shape": lambda e: e["window"]["gradients"].__setitem__(0, torch.ones(3)),
    r"1 not finite numbers": lambda e: next(iter(e["model"].values())).fill_(torch.nan),
    r"param_update_step is .*expected a count": lambda e: e.update(param_update_step=2**70),
}


@pytest.mark.parametrize("words", SPOILED)
def test_a_state_that_does_not_fit_is_named_and_changes_nothing(entries: Any, tmp_path: Path, words: str) -> None:
    spoiled = copy.deepcopy(entries)
    SPOILED[words](spoiled)
    torch.save(spoiled, tmp_path / "a.pt")
    trainer = _stepped(2)
    before = copy.deepcopy((trainer.model.state_dict(), trainer.step.state_dict()))
    with pytest.raises(CheckpointError, match=words) as caught:
        trainer.resume(tmp_path / "a.pt")
    assert "\n" not in str(caught.value)
    torch.testing.assert_close((trainer.model.state_dict(), trainer.step.state_dict()), before, rtol=0, atol=0)


def test_the_state_that_was_saved_fits(entries: Any, tmp_path: Path) -> None:
    torch.save(entries, tmp_path / "a.pt")
    trainer = _stepped(2)
    trainer.resume(tmp_path / "a.pt")
    torch.testing.assert_close(trainer.step.state_dict()["optimizer"], entries["optimizer"], rtol=0, atol=0)
    # A key of another version of torch's is a plain value.
    entries["lr_scheduler"]["of_another_version"] = False
    torch.save(entries, tmp_path / "a.pt")
    trainer.resume(tmp_path / "a.pt")
