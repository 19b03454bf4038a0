"""Settings from presets, files and overrides."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gslrm.config import PRESETS, Config, ConfigError, config_to_yaml, load_config


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid_and_survive_a_round_trip(preset: str, tmp_path: Path) -> None:
    config = load_config(preset)
    path = tmp_path / "config.yaml"
    path.write_text(config_to_yaml(config))
    assert load_config(path) == config


def test_facelift_has_the_public_sizes() -> None:
    model, training = load_config("facelift").model, load_config("facelift").training
    assert (model.image_tokenizer.image_size, model.image_tokenizer.patch_size) == (512, 8)
    assert (model.transformer.d, model.transformer.d_head, model.transformer.n_layer) == (1024, 64, 24)
    assert (model.gaussians.n_gaussians, model.gaussians.sh_degree) == (2, 0)
    assert training.runtime.precision == "bf16"
    assert (training.optimizer.beta1, training.optimizer.beta2) == (0.9, 0.95)
    assert training.optimizer.weight_decay == 0.05
    assert training.losses.perceptual_loss_weight == 0.5


def test_left_out_keys_have_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("training:\n  losses:\n  optimizer: {lr: 1e-4}\n")
    config = load_config(path)
    assert config.training.optimizer.lr == 1e-4  # text to YAML 1.1
    assert config.training.losses == Config().training.losses
    assert config.model == Config().model
    path.write_text("")
    assert load_config(path) == Config()


def test_overrides_come_as_a_mapping_or_as_text() -> None:
    values = {
        "training.optimizer.lr": 3e-4,
        "model.hard_pixelalign": False,
        "training.dataset.background_color": [0.0, 0.5, 1],
        "training.dataset.dataset_path": None,
        "training.runtime.amp_dtype": "fp16",
    }
    config = load_config("tiny", values)
    assert config.training.optimizer.lr == 3e-4
    assert config.model.hard_pixelalign is False
    assert config.training.dataset.background_color == (0.0, 0.5, 1.0)
    assert config.training.runtime.precision == "fp16"
    texts = [
        "training.optimizer.lr=3e-4",
        "model.hard_pixelalign=false",
        "training.dataset.background_color=[0, 0.5, 1]",
        "training.dataset.dataset_path=",
        "training.runtime.amp_dtype=fp16",
    ]
    assert load_config("tiny", texts) == config
    assert load_config("tiny", "training.optimizer.lr=3e-4").training.optimizer.lr == 3e-4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [", "not YAML"),
        ("[1, 2]", "expected sections model and training, found list"),
        ("model: 3", "model must be a section of keys, found 3"),
        ("training:\n  schedule: {warmup: 1, warmup: 2}", "not YAML: .*warmup is given twice"),
        ("a: [{b: {c: 1, c: 2}}]", "not YAML: .*c is given twice"),
        ("training: &a {runtime: *a}", "not YAML: .*nested more than 32 deep"),
        ("model: !!python/object/apply:os.getcwd []", "not YAML: could not determine a constructor"),
        ("a: &a [*a]", "not YAML: .*nested more than 32 deep"),
        ("[" * 5000, "not YAML"),
        ("? [1, 2]\n: 3", "not YAML: .*unhashable key"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"a\.yaml: .*{message}"):
        load_config(path)


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tinny: no such file, nor a preset \(tiny, facelift\)"):
        load_config("tinny")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"a\.yaml: not UTF-8 text"):
        load_config(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.optimizer.lr", "override 'training.optimizer.lr' is not key=value"),
        ("=3", "is not key=value"),
        ("model.transformer.d=1, 2", "expected one value"),
        ("model.transformer.d=]", "not YAML"),
        ("model.transformer.d.e=1", "d is no section"),
    ],
)
def test_wrong_overrides_are_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("tiny", [override])


def test_unknown_keys_can_be_left_alone_with_a_warning() -> None:
    extra = {"wandb.project": "x", "training.optimizer.lrr": 1}
    with pytest.warns(UserWarning, match=r"left alone: training\.optimizer\.lrr, wandb"):
        assert load_config("tiny", extra, ignore_unknown=True) == load_config("tiny")


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
_tree = yaml.safe_load(config_to_yaml(Config()))


def _leaves(tree: Any, where: str = "") -> list[str]:
    if not isinstance(tree, dict):
        return [where]
    return [leaf for key, inner in tree.items() for leaf in _leaves(inner, f"{where}.{key}" if where else key)]


_keys = _leaves(_tree)


@given(key=st.sampled_from(_keys), value=_values)
def test_any_value_is_taken_or_refused_in_a_sentence_that_names_its_key(key: str, value: Any) -> None:
    try:
        config: Any = load_config("facelift", {key: value})
    except ConfigError as error:
        said = str(error)
    else:
        for name in key.split("."):
            config = getattr(config, name)
        assert not isinstance(config, float) or math.isfinite(config)
        return
    assert said.startswith("facelift: ")
    assert key.rsplit(".", 1)[1] in said
