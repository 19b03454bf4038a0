"""The public configuration files' whole tree: it loads as it is, and each key is heeded or named."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from gslrm.config import PRESETS, Config, ConfigError, load_config
from gslrm.config.sections import Checked

FILE = Path(__file__).with_name("public.yaml")
LEFT_ALONE = {
    "profile",
    "debug",
    "model.class_name",
    "model.gaussians.scaling_modifier",
    "model.depth_preact_bias",
    "model.depth_min",
    "model.depth_max",
    "model.depth_reference_origin",
    "training.runtime.torch_compile",
    "training.dataset.maximize_view_overlap",
    "training.dataset.normalize_distance_to",
    "training.dataloader.num_workers",
    "training.dataloader.num_threads",
    "training.dataloader.prefetch_factor",
    "training.losses.distill_loss_weight",
    *(f"training.logging.wandb.{key}" for key in ("project", "exp_name", "job_type", "log_every", "offline")),
    *(f"{section}.{key}" for section in ("inference", "validation") for key in ("enabled", "output_dir")),
    *(f"{section}.{key}" for section in ("inference", "validation") for key in ("val_every", "dataset_path")),
    *(f"mouse.{key}" for key in ("use_mouse_dataset", "normalize_cameras", "normalize_to_z_up")),
    "mouse.target_camera_distance",
    *(f"mouse.augmentation.{key}" for key in ("enabled", "brightness_range", "contrast_range", "hflip")),
}
OURS = {
    "training.runtime.seed",
    "training.dataset.mask_threshold",
    "training.losses.ssim_variant",
    "training.losses.ssim_neutral_value",
    "training.losses.perceptual_weights_file",
}
"""Keys that the public files do not have."""


def leaves(tree: dict[str, Any], where: str = "") -> dict[str, Any]:
    found = {}
    for key, value in tree.items():
        name = f"{where}.{key}" if where else key
        found |= leaves(value, name) if isinstance(value, dict) else {name: value}
    return found


def known(section: Checked, where: str = "") -> set[str]:
    names: set[str] = set()
    for field in dataclasses.fields(section):
        value, name = getattr(section, field.name), f"{where}.{field.name}" if where else field.name
        names |= known(value, name) if isinstance(value, Checked) else {name}
    return names


def at(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = getattr(config, name)
    return config


def test_the_whole_tree_loads_and_every_key_has_its_value() -> None:
    config, given = load_config(FILE), leaves(yaml.safe_load(FILE.read_text()))
    assert {key: at(config, key) for key in given} == given
    assert known(Config()) == given.keys() | OURS


def test_what_nothing_acts_on_is_named_once_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gslrm"):
        load_config(FILE)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    start, _, named = record.getMessage().rpartition(": ")
    assert start == f"{FILE}: accepted, but nothing acts on these settings"
    assert set(named.split(", ")) == LEFT_ALONE
    assert len(named.split(", ")) == len(LEFT_ALONE)


def test_a_key_that_asks_for_nothing_is_not_named(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "debug: false\nprofile: false\ntraining: {dataset: {normalize_distance_to: 0.0}}\n"
        "mouse: {augmentation: {enabled: false}}\ninference: {enabled: false, output_dir: null}\n"
    )
    load_config(path)
    for preset in PRESETS:
        load_config(preset)
    assert not caplog.records


@pytest.mark.parametrize(
    "key",
    [
        "profil",
        "model.hard_pixel_align",
        "model.gaussians.hard_pixelalign",
        "training.logging.wandb.projekt",
        "mouse.augmentation.vflip",
        "inference.val",
        "training.schedule.total_steps",
        "training.losses.l2_warmup_steps",
    ],
)
def test_an_unknown_key_is_an_error_still(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"public\.yaml: {key}: no such setting"):
        load_config(FILE, {key: 1})


@pytest.mark.parametrize("value", [None, "", -1, 2.5, "text", [1, "a"], {"inner": 1}])
def test_what_is_left_alone_may_hold_anything(value: Any) -> None:
    assert load_config(FILE, {"mouse.target_camera_distance": value}).mouse.target_camera_distance == value


def test_a_file_without_masks_needs_none(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "training:\n  dataset: {remove_alpha: true}\n"
        "  losses: {ssim_loss_weight: 0.5, masked_pixelalign_loss: true, pixelalign_loss_weight: 0}\n"
    )
    assert load_config(path).training.losses.needs_mask() is None


def test_what_a_file_leaves_out_is_off(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("training: {losses: {l2_loss_weight: 1.0}}\n")
    losses = load_config(path).training.losses
    assert not losses.masked_l2_loss
    assert not losses.masked_ssim_loss
    assert losses.ssim_loss_weight == 0
