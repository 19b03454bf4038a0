"""A whole training in the small: the real model, renderer, losses and step, in milliseconds a pass on a CPU."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gslrm.config import Config, load_config
from gslrm.data.synthetic import synthetic_scene
from gslrm.data.views import PosedViews
from gslrm.training.sampling import Sampler
from gslrm.training.step_outcome import StepOutcome
from gslrm.training.trainer import Trainer

_AMP = {None: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
_VIEWS = 6
_SIZES = {
    "model.image_tokenizer.image_size": 16,
    "model.image_tokenizer.patch_size": 8,
    "model.transformer.d": 32,
    "model.transformer.n_layer": 1,
    "training.dataset.num_views": 2,
    "training.dataset.num_input_views": 1,
    "training.dataset.target_has_input": False,
    "training.schedule.warmup": 2,
    "training.optimizer.lr": 1e-2,
}


class TinyTraining:
    """The trainer on a made-up scene of 16 × 16 px, one view seen and another drawn, all masked terms on.

    Args:
        scaler: enabled for float16 only.
        device: ``cpu`` or ``cuda``.
        amp_dtype: ``torch.float16``, ``torch.bfloat16``, or ``None`` for float32 without autocast.
        grad_accum_steps, grad_clip_norm, allowed_gradnorm_factor: as in :class:`gslrm.training.amp_step.AmpStep`.
    """

    def __init__(
        self,
        scaler: torch.amp.GradScaler,
        *,
        device: str = "cpu",
        amp_dtype: torch.dtype | None = None,
        grad_accum_steps: int = 1,
        grad_clip_norm: float = 1.0,
        allowed_gradnorm_factor: float = 20.0,
    ) -> None:
        config = _config(_AMP[amp_dtype], grad_accum_steps, grad_clip_norm, allowed_gradnorm_factor)
        self.trainer = Trainer(config, device, scaler=scaler)
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        scene = self.scene(config.model.image_tokenizer.image_size)
        # Asked for what a pass sees, and then for that pass: drawn once.
        self._batch = functools.lru_cache(1)(Sampler([scene], config.training.dataset, rank=rank).batch)
        self.model = self.trainer.model
        self.optimizer = self.trainer.step.optimizer
        self.lr_scheduler = self.trainer.step.lr_scheduler

    @staticmethod
    def scene(size: int) -> PosedViews:
        """What it trains on, ``size`` pixels a side; another for whoever overrides it."""
        return _made_up_scene(size)

    @property
    def fwdbwd_pass_step(self) -> int:
        """Passes so far."""
        return self.trainer.step.fwdbwd_pass_step

    @property
    def param_update_step(self) -> int:
        """Optimizer steps so far."""
        return self.trainer.step.param_update_step

    def batch_images(self, pass_step: int) -> Float[Tensor, "1 2 4 16 16"]:
        """The pass' views: RGB in [0, 1] and mask."""
        return self._batch(pass_step).images.clone()

    def train_on(self, images: Float[Tensor, "1 2 4 16 16"]) -> Float[Tensor, ""]:
        """One pass with these images in place of its batch's; the loss."""
        batch = replace(self._batch(self.fwdbwd_pass_step), images=images)
        return self.trainer.train_step(batch).losses.total.detach()

    def optimizer_step(self) -> StepOutcome | None:
        """End the accumulation window if it is full."""
        return self.trainer.optimizer_step()

    def state_dict(self) -> dict[str, Any]:
        """A checkpoint as the trainer writes it."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "checkpoint.pt"
            self.trainer.save(path)
            return {"checkpoint": path.read_bytes()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from it as the trainer does."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "checkpoint.pt"
            path.write_bytes(state["checkpoint"])
            self.trainer.resume(path)


@functools.cache
def _made_up_scene(size: int) -> PosedViews:
    return synthetic_scene(_VIEWS, size)


@functools.cache
def _config(amp: str, accumulation: int, clip_norm: float, norm_factor: float) -> Config:
    return load_config(
        "tiny",
        {
            **_SIZES,
            "training.runtime.use_amp": amp != "fp32",
            "training.runtime.amp_dtype": None if amp == "fp32" else amp,
            "training.runtime.grad_accum_steps": accumulation,
            "training.schedule.max_fwdbwd_passes": 1000 * accumulation,
            "training.runtime.grad_clip_norm": clip_norm,
            "training.runtime.allowed_gradnorm_factor": norm_factor,
        },
    )
