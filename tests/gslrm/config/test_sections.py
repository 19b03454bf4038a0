"""What a setting may be: known, of its type, in its range, in no contradiction with another."""

from __future__ import annotations

import dataclasses

import pytest

from gslrm.config import (
    Config,
    ConfigError,
    DatasetConfig,
    ImageTokenizerConfig,
    OptimizerConfig,
    RuntimeConfig,
    load_config,
)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        # unknown
        (
            "training.optimizer.lrr=1",
            r"training\.optimizer\.lrr: no such setting; did you mean training\.opt",
        ),
        ("trainin.x=1", r"trainin: no such setting; did you mean training\?"),
        ("model.zzz=1", "model.zzz: no such setting; model has image_tokenizer, transformer, gaussians"),
        # types
        ("training.runtime.use_amp=1", "use_amp must be true or false, found 1"),
        ("training.runtime.use_amp='no'", "use_amp must be true or false, found 'no'"),
        ("training.runtime.seed=1.5", r"seed must be a whole number, found 1\.5"),
        ("training.runtime.seed=true", "seed must be a whole number, found true"),
        ("training.optimizer.lr=fast", "lr must be a number, found 'fast'"),
        ("training.optimizer.lr=", "lr must be a number, found null"),
        ("training.losses.perceptual_weights_file=3", "must be text or null, found 3"),
        ("training.dataset.background_color=[1, 1]", "must be white or gray or black or a list of 3 numbers"),
        # ranges
        ("training.optimizer.lr=0", "lr is 0, expected above 0"),
        ("training.optimizer.lr=.nan", "lr is nan, expected a finite number"),
        ("training.optimizer.lr=.inf", "lr is inf, expected a finite number"),
        ("training.optimizer.beta2=1", r"beta2 is 1, expected in \[0, 1\)"),
        ("training.runtime.allowed_gradnorm_factor=0.5", "expected at least 1"),
        ("training.runtime.grad_accum_steps=0", "grad_accum_steps is 0, expected at least 1"),
        ("training.runtime.amp_dtype=fp8", "amp_dtype must be fp16 or bf16 or fp32 or null, found 'fp8'"),
        ("training.losses.ssim_variant=best", "ssim_variant is 'best', expected stable or clamp"),
        ("training.losses.ssim_neutral_value=2", r"ssim_neutral_value is 2, expected in \[0, 1\]"),
        ("training.losses.l2_loss_weight=-1", "l2_loss_weight is -1, expected at least 0"),
        ("training.dataset.background_color=[0, 2, 0]", r"background_color is 2, expected in \[0, 1\]"),
        ("training.dataset.mask_threshold=256", r"mask_threshold is 256, expected in \[0, 255\]"),
        # contradictions
        ("training.runtime.amp_dtype=fp32", "amp_dtype is fp32, but use_amp is true"),
        ("model.image_tokenizer.image_size=30", "image_size is 30, which is no multiple of patch_size, 4"),
        ("model.image_tokenizer.in_channels=3", "in_channels is 3, but a posed image has 9"),
        ("model.transformer.d_head=48", "d is 64, which is no multiple of d_head, 48"),
        ("model.gaussians.sh_degree=1", "sh_degree is 1, but only 0 is supported"),
        ("model.use_aug_plucker=true", "in_channels is 9, but a posed image has 12: .*use_aug_plucker true"),
        ("model.gaussians.upsampler.upsample_factor=2", "upsample_factor is 2, but only 1 is supported"),
        ("training.schedule.max_fwdbwd_passes=null", "num_epochs and max_fwdbwd_passes are both null"),
        ("training.dataset.num_views=1", "num_input_views is 2, past num_views, 1"),
        ("training.losses.background_color_target=2", "background_color_target is 2, expected in"),
        ("training.losses.background_color_target=red", "must be white or gray or black or a number or a list of 3"),
        (
            "training.dataset.remove_alpha=true",
            "masked_l2_loss needs a mask, but dataset.remove_alpha is true",
        ),
        ("training.losses.ssim_variant=ms_ssim", "image_size is 32, .* ms_ssim needs at least 161 px"),
    ],
)
def test_wrong_settings_are_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^tiny: .*{message}"):
        load_config("tiny", [override])


def test_a_loss_of_nothing_is_refused() -> None:
    weights = ("l2_loss_weight", "ssim_loss_weight", "background_loss_weight")
    with pytest.raises(ConfigError, match="nothing would be learned"):
        load_config("tiny", [f"training.losses.{weight}=0" for weight in weights])


def test_masked_variants_need_the_mask() -> None:
    unmasked = ["training.losses.masked_ssim_loss=false"]
    load_config("tiny", unmasked)
    with pytest.raises(ConfigError, match="ssim_variant is foreground, which needs the mask"):
        load_config("tiny", [*unmasked, "training.losses.ssim_variant=foreground"])


def test_a_mask_is_only_needed_by_terms_that_count() -> None:
    bare = ["training.dataset.remove_alpha=true", "training.losses.masked_l2_loss=false"]
    with pytest.raises(ConfigError, match="masked_ssim_loss needs a mask"):
        load_config("tiny", bare)
    bare.append("training.losses.ssim_loss_weight=0")
    with pytest.raises(ConfigError, match="background_loss_weight needs a mask"):
        load_config("tiny", bare)
    load_config("tiny", [*bare, "training.losses.background_loss_weight=0"])
    masked = [
        "training.dataset.remove_alpha=true",
        *(f"training.losses.{w}_loss_weight=0" for w in ("l2", "ssim", "background")),
    ]
    load_config("tiny", [*masked, "training.losses.lpips_loss_weight=1"])


def test_the_views_that_are_supervised_must_be_some() -> None:
    load_config("tiny", ["training.dataset.target_has_input=false"])
    with pytest.raises(ConfigError, match="target_has_input is false, but num_input_views is num_views, 4"):
        load_config("tiny", ["training.dataset.target_has_input=false", "training.dataset.num_input_views=4"])


def test_precision_follows_use_amp() -> None:
    assert RuntimeConfig().precision == "bf16"
    assert RuntimeConfig(amp_dtype="fp16").precision == "fp16"
    assert RuntimeConfig(use_amp=False).precision == "fp32"
    assert RuntimeConfig(use_amp=False, amp_dtype="bf16").precision == "fp32"  # as autocast(enabled=False) has it
    assert RuntimeConfig(use_amp=False, amp_dtype="fp32").precision == "fp32"


def test_sections_built_in_code_are_checked_too() -> None:
    with pytest.raises(ConfigError, match=r"^lr is -1, expected above 0"):
        OptimizerConfig(lr=-1)
    with pytest.raises(ConfigError, match=r"^image_size is 10"):
        dataclasses.replace(ImageTokenizerConfig(), image_size=10)
    with pytest.raises(ConfigError, match="model must be a section"):
        Config(model=3)  # type: ignore[arg-type]
    assert OptimizerConfig(lr=1).lr == 1.0
    assert isinstance(OptimizerConfig(lr=1).lr, float)
    assert DatasetConfig(background_color="gray").background_color == "gray"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().training.optimizer.lr = 1.0  # type: ignore[misc]
