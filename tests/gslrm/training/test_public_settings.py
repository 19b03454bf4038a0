"""What the public settings of length, checkpoints and views make of a training."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from gslrm.config import Config, ConfigError, ScheduleConfig, load_config
from gslrm.data.synthetic import synthetic_scene
from gslrm.model.checkpoint import Checkpoint, CheckpointError, newest_checkpoint, read_checkpoint, save_checkpoint
from gslrm.train import main
from gslrm.training.sampling import Sampler
from gslrm.training.trainer import Trainer

_SIZES = {
    "model.image_tokenizer.image_size": 16,
    "model.image_tokenizer.patch_size": 8,
    "model.transformer.d": 32,
    "model.transformer.n_layer": 1,
    "training.schedule.warmup": 2,
    "training.schedule.max_fwdbwd_passes": 20,
    "training.runtime.use_amp": False,
}


def _config(**more: Any) -> Config:
    return load_config("tiny", {**_SIZES, **more})


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    return Sampler([synthetic_scene(6, 16)], _config().training.dataset)


def _trained(sampler: Sampler, passes: int = 3, **more: Any) -> Trainer:
    trainer = Trainer(_config(**more))
    for step in range(passes):
        trainer.train_step(sampler.batch(step))
        trainer.optimizer_step()
    return trainer


@pytest.mark.parametrize(
    ("schedule", "planned", "run"),
    [
        ({"max_fwdbwd_passes": 20}, 20, 20),
        ({"max_fwdbwd_passes": 20, "num_epochs": 100}, 20, 20),
        ({"max_fwdbwd_passes": 20, "num_epochs": 3}, 15, 15),
        ({"max_fwdbwd_passes": None, "num_epochs": 3}, 15, 15),
        ({"max_fwdbwd_passes": 20, "early_stop_after_epochs": 2}, 20, 10),
        ({"max_fwdbwd_passes": 20, "early_stop_after_epochs": 0}, 20, 20),
        ({"max_fwdbwd_passes": 20, "early_stop_after_epochs": 9}, 20, 20),
    ],
)
def test_training_lasts_as_long_as_passes_and_epochs_say(schedule: dict[str, Any], planned: int, run: int) -> None:
    config = ScheduleConfig(**schedule)
    assert config.planned_passes(5) == planned
    assert config.passes_to_run(5) == run


def test_epochs_alone_need_their_length() -> None:
    with pytest.raises(ConfigError, match="how many passes an epoch has is not known"):
        Trainer(_config(**{"training.schedule.max_fwdbwd_passes": None, "training.schedule.num_epochs": 3}))
    with pytest.raises(ConfigError, match="both null"):
        ScheduleConfig(max_fwdbwd_passes=None)


def test_an_epoch_is_as_many_passes_as_see_all_scenes() -> None:
    scenes = [synthetic_scene(4, 16, seed=seed) for seed in range(5)]
    sampler = Sampler(scenes, _config().training.dataset, batch_size=2)
    assert (sampler.passes_per_epoch(), sampler.passes_per_epoch(2)) == (3, 2)
    assert sampler.batch(0).images.shape[0] == 2


def test_the_cosine_is_as_long_as_the_updates_that_the_passes_make() -> None:
    settings = {"training.runtime.grad_accum_steps": 3, "training.schedule.early_stop_after_epochs": 2}
    trainer = Trainer(_config(**settings), passes_per_epoch=5)
    assert trainer.passes == 9  # whole windows of the ten passes
    factor = trainer.step.lr_scheduler.lr_lambdas[0]
    assert factor(6) == pytest.approx(0.0, abs=1e-12)  # 20 passes make 6 updates, early stop or not
    assert factor(5) > 0.01


def test_a_warm_up_longer_than_training_is_refused() -> None:
    with pytest.raises(ConfigError, match="warmup is 21 optimizer steps, but training plans only 20"):
        Trainer(_config(**{"training.schedule.warmup": 21}))
    with pytest.raises(ConfigError, match="shorter than one optimizer step of 21 passes"):
        Trainer(_config(**{"training.runtime.grad_accum_steps": 21}))


def test_only_the_other_views_are_supervised_when_asked(sampler: Sampler) -> None:
    trainer = Trainer(_config(**{"training.dataset.target_has_input": False}))
    batch = sampler.batch(0)
    result = trainer.forward(batch)
    assert torch.equal(result.target, batch.images[:, 2:])
    assert result.rendering.shape[1] == 2
    whole = Trainer(_config()).forward(batch)
    assert torch.equal(whole.target, batch.images)
    torch.testing.assert_close(whole.rendering[:, 2:], result.rendering)


def test_points_are_placed_without_clipping(sampler: Sampler, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(_config(**{"training.losses.warmup_pointsdist": True}))
    clips: list[bool] = []
    trainer.model.register_forward_pre_hook(lambda _model, _given, named: clips.append(named["clip"]), with_kwargs=True)
    first = trainer.forward(sampler.batch(0)).losses.terms
    assert "l2" not in first
    assert "pointsdist" in first
    trainer.step.param_update_step = 1000
    later = trainer.forward(sampler.batch(0)).losses.terms
    assert "l2" in later
    assert "pointsdist" not in later
    assert clips == [False, True]


def test_what_of_a_checkpoint_is_dropped(sampler: Sampler, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    before = _trained(sampler)
    before.save(path)
    changed = {"training.optimizer.lr": 5e-4, "training.optimizer.weight_decay": 0.2}

    def started(*resets: str) -> Trainer:
        trainer = Trainer(_config(**changed, **{f"training.optimizer.reset_{name}": True for name in resets}))
        trainer.start_from(path)
        assert all(
            torch.equal(a, b) for a, b in zip(trainer.model.parameters(), before.model.parameters(), strict=True)
        )
        return trainer

    def rates(trainer: Trainer) -> tuple[float, float, list[float], int]:
        groups, schedule = trainer.step.optimizer.param_groups, trainer.step.lr_scheduler
        assert schedule is not None
        return groups[0]["lr"], groups[0]["weight_decay"], schedule.base_lrs, trainer.step.param_update_step

    factor = before.step.lr_scheduler.lr_lambdas[0](3)
    kept, lr, decay, state = (started(*resets) for resets in ((), ("lr",), ("weight_decay",), ("training_state",)))
    assert rates(kept) == (pytest.approx(2e-3 * factor), 0.05, [2e-3, 2e-3], 3)
    assert rates(lr) == (pytest.approx(5e-4 * factor), 0.05, [5e-4, 5e-4], 3)
    assert rates(decay) == (pytest.approx(2e-3 * factor), 0.2, [2e-3, 2e-3], 3)
    assert decay.step.optimizer.param_groups[1]["weight_decay"] == 0.0
    assert rates(state) == (pytest.approx(5e-4 / 2), 0.2, [5e-4, 5e-4], 0)
    assert kept.step.optimizer.state_dict()["state"]
    assert not state.step.optimizer.state_dict()["state"]
    # The next step's learning rate is of the new base, too.
    lr.train_step(sampler.batch(3))
    lr.optimizer_step()
    assert rates(lr)[0] == pytest.approx(5e-4 * before.step.lr_scheduler.lr_lambdas[0](4))


def test_a_public_checkpoint_is_enough_to_start_from_its_weights(sampler: Sampler, tmp_path: Path) -> None:
    source = _trained(sampler, 1)
    save_checkpoint(tmp_path / "public.pt", Checkpoint(source.model.state_dict(), {}, {}, 1000, 500))
    with pytest.raises(CheckpointError, match=r"to start from its weights, set training\.optimizer\.reset_training_st"):
        Trainer(_config()).start_from(tmp_path / "public.pt")
    trainer = Trainer(_config(**{"training.optimizer.reset_training_state": True}))
    trainer.start_from(tmp_path / "public.pt")
    assert all(torch.equal(a, b) for a, b in zip(trainer.model.parameters(), source.model.parameters(), strict=True))
    assert trainer.step.fwdbwd_pass_step == 0


def test_of_a_folder_the_newest_checkpoint_counts(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        newest_checkpoint(tmp_path)
    for name in ("ckpt_9.pt", "ckpt_10.pt", "last.pt", "notes.txt", "ckpt_0000000000000010.json"):
        (tmp_path / name).touch()
    assert newest_checkpoint(tmp_path).name == "ckpt_10.pt"
    assert newest_checkpoint(tmp_path / "ckpt_9.pt").name == "ckpt_9.pt"
    assert newest_checkpoint(tmp_path / "absent.pt").name == "absent.pt"  # whose absence its reader names


def _file(folder: Path, **sections: Any) -> Path:
    """A configuration file of the public keys, for a scene beside it."""
    if not (folder / "scene").is_dir():
        synthetic_scene(6, 16, folder=folder / "scene")
    training = {
        "runtime": {"use_amp": False, "use_tf32": False, "grad_accum_steps": 2},
        "losses": {"l2_loss_weight": 1.0, "masked_l2_loss": True},
        "dataset": {"dataset_path": str(folder / "scene"), "num_views": 3, "num_input_views": 1},
        "checkpointing": {"checkpoint_dir": str(folder / "run")},
        "schedule": {"max_fwdbwd_passes": 8, "warmup": 1},
    }
    for name, keys in sections.items():
        training[name] = {**training.get(name, {}), **keys}
    model = {
        "image_tokenizer": {"image_size": 16, "patch_size": 8},
        "transformer": {"d": 32, "d_head": 16, "n_layer": 1},
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps({"model": model, "training": training}))
    return path


def test_a_file_of_the_public_keys_is_trained_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    save = Trainer.save
    monkeypatch.setattr(
        Trainer, "save", lambda self, path: (saved.append(self.step.fwdbwd_pass_step), save(self, path))
    )
    config = _file(tmp_path, checkpointing={"checkpoint_every": 3}, logging={"vis_every": 4})
    assert main(["--config", str(config), "--device", "cpu"]) == 0
    run = tmp_path / "run"
    assert read_checkpoint(run / "checkpoint.pt").fwdbwd_pass_step == 8
    # Every third pass, once the window that it is in is over; and at the end.
    assert saved == [4, 6, 8]
    assert sorted(p.name for p in run.glob("*.png")) == ["pictures-000002.png", "pictures-000004.png"]
    assert len((run / "log.jsonl").read_text().splitlines()) == 8
    # Another training starts where this one ended, with fresh counters, and lasts an epoch of one pass a scene.
    config = _file(
        tmp_path,
        checkpointing={"resume_ckpt": str(run), "checkpoint_dir": str(tmp_path / "next")},
        optimizer={"reset_training_state": True},
        schedule={"num_epochs": 2},
    )
    assert main(["--config", str(config), "--device", "cpu"]) == 0
    assert read_checkpoint(tmp_path / "next" / "checkpoint.pt").fwdbwd_pass_step == 2
    # --steps goes before the file's length, and --out before its folder.
    assert main(["--config", str(config), "--device", "cpu", "--steps", "3", "--out", str(tmp_path / "more")]) == 0
    assert read_checkpoint(tmp_path / "more" / "checkpoint.pt").fwdbwd_pass_step == 6


def test_nothing_to_train_on_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("train: there is nothing to train on: give --scene, or training.dataset")


def test_tf32_is_as_the_file_says(tmp_path: Path) -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        for wanted in (True, False):
            config = _file(tmp_path, runtime={"use_tf32": wanted})
            assert main(["--config", str(config), "--device", "cpu", "--steps", "1"]) == 0
            assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (wanted, wanted)
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_what_is_left_alone_is_said_when_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = _file(tmp_path, logging={"wandb": {"project": "heads"}}, dataloader={"num_workers": 4})
    with caplog.at_level(logging.WARNING):
        assert main(["--config", str(config), "--device", "cpu", "--steps", "1"]) == 0
    (record,) = caplog.records
    assert record.getMessage().endswith(": training.dataloader.num_workers, training.logging.wandb.project")
