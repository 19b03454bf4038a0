"""GS-LRM's training: passes under autocast, steps by :class:`AmpStep`, several processes if need be."""

from __future__ import annotations

import contextlib
import math
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gslrm.config import Config, ConfigError, OptimizerConfig
from gslrm.data.images import background_rgb
from gslrm.data.views import ViewBatch
from gslrm.model.checkpoint import (
    Checkpoint,
    CheckpointError,
    check_weights,
    load_weights,
    read_checkpoint,
    save_checkpoint,
)
from gslrm.model.gslrm import GSLRM
from gslrm.rendering import render_batch
from gslrm.training.amp_step import AmpStep
from gslrm.training.loss_computer import LossComputer, Losses
from gslrm.training.monitor import StepMonitor
from gslrm.training.saved_state import check_training_state
from gslrm.training.step_outcome import StepOutcome

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class PassResult:
    """One pass forward and backward: its losses, the rendered views, in [0, 1] or beyond, and what they should be."""

    losses: Losses
    rendering: Float[Tensor, "b v 3 h w"]
    target: Float[Tensor, "b v c h w"]


class Trainer:
    """A model, its loss, optimizer, scaler and schedule.

    Args:
        config: as the YAML files give it.
        device: ``cpu`` or ``cuda``.
        losses: instead of what the configuration says.
        monitor: logs skips and losses out of range; ``None`` for none.
        scaler: instead of one that starts at torch's default scale; enabled for float16 only.
        passes_per_epoch: how long an epoch of the configuration's is.

    Attributes:
        passes: how many there are to run, whole accumulation windows, early stop included.

    Raises:
        ConfigError: the schedule's warm-up is longer than training, or training is shorter than one optimizer step or
            its length not known.

    With ``torch.distributed`` initialised, the model is wrapped for it, all processes start from rank 0's weights
    and decide alike about every step.
    """

    def __init__(
        self,
        config: Config,
        device: torch.device | str = "cpu",
        *,
        losses: LossComputer | None = None,
        monitor: StepMonitor | None = None,
        scaler: torch.amp.GradScaler | None = None,
        passes_per_epoch: int | None = None,
    ) -> None:
        self.config = config
        self.device = torch.device(device)
        training = config.training
        runtime = training.runtime
        self.background = background_rgb(training.dataset.background_color)
        self.model = GSLRM(config.model, seed=runtime.seed, grad_checkpoint_every=runtime.grad_checkpoint_every).to(
            self.device
        )
        schedule = training.schedule
        losses = losses or LossComputer(training.losses, self.background, l2_warmup_steps=schedule.l2_warmup_steps)
        self.losses = losses.to(self.device)
        self.amp_dtype = _DTYPES[runtime.precision]
        optimizer = make_optimizer(self.model, training.optimizer)
        updates = schedule.planned_passes(passes_per_epoch) // runtime.grad_accum_steps
        self.passes = schedule.passes_to_run(passes_per_epoch) // runtime.grad_accum_steps * runtime.grad_accum_steps
        if not self.passes:
            raise ConfigError(f"training is shorter than one optimizer step of {runtime.grad_accum_steps} passes")
        if schedule.warmup > updates:
            raise ConfigError(
                f"training.schedule.warmup is {schedule.warmup} optimizer steps, but training plans only {updates}"
            )
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        self._module: nn.Module = DistributedDataParallel(self.model) if distributed else self.model
        self.step = AmpStep(
            optimizer,
            scaler or torch.amp.GradScaler(self.device.type, enabled=self.amp_dtype == torch.float16),
            make_schedule(optimizer, schedule.warmup, updates),
            grad_accum_steps=runtime.grad_accum_steps,
            grad_clip_norm=runtime.grad_clip_norm,
            allowed_gradnorm_factor=runtime.allowed_gradnorm_factor,
            monitor=monitor,
            agree=_largest_of_all if distributed else None,
        )

    def train_step(self, batch: ViewBatch) -> PassResult:
        """One pass: reconstruct from the input views, render the supervised views, back-propagate the loss.

        Raises:
            SceneError, ValueError: the batch doesn't fit the model.
        """
        batch = batch.to(self.device)
        with self._synchronised_on_the_last_pass():
            result = self.forward(batch)
            self.step.backward(result.losses.total)
        return replace(result, rendering=result.rendering.detach())

    def optimizer_step(self) -> StepOutcome | None:
        """End the accumulation window if it is full; ``None`` while it is open."""
        return self.step.step()

    def forward(self, batch: ViewBatch) -> PassResult:
        """Reconstruct, render and weigh, under autocast; nothing is back-propagated."""
        dataset, update = self.config.training.dataset, self.step.param_update_step
        seen = batch.first(dataset.num_input_views)
        wanted = batch if dataset.target_has_input else batch.after(dataset.num_input_views)
        enabled = self.amp_dtype != torch.float32
        with torch.autocast(self.device.type, dtype=self.amp_dtype if enabled else None, enabled=enabled):
            clip = not self.losses.places_points(update)
            made = self._module(seen.images[:, :, :3], seen.c2w, seen.intrinsics, clip=clip)
            height, width = wanted.images.shape[-2:]
            drawn = render_batch(made.gaussians, wanted.c2w, wanted.intrinsics, height, width, self.background)
            has_mask = wanted.images.shape[2] == 4
            input_mask = seen.images[:, :, 3:] if has_mask else None
            losses = self.losses(drawn.image, wanted.images, made, input_mask=input_mask, update=update)
        return PassResult(losses, drawn.image, wanted.images)

    def save(self, path: Path) -> None:
        """Write everything that a resumed run needs, in one move."""
        state = self.step.state_dict()
        save_checkpoint(
            path,
            Checkpoint(
                model=self.model.state_dict(),
                optimizer=state["optimizer"],
                lr_scheduler=state["lr_scheduler"],
                fwdbwd_pass_step=state["fwdbwd_pass_step"],
                param_update_step=state["param_update_step"],
                extra={"scaler": state["scaler"], "window": state["window"]},
            ),
        )

    def resume(self, path: Path) -> None:
        """Continue from a file of :meth:`save`.

        Raises:
            CheckpointError: the file can't be read, fits another model, or holds no training state.
        """
        saved = read_checkpoint(path, self.device)
        if saved.optimizer is None or saved.lr_scheduler is None or not {"scaler", "window"} <= set(saved.extra):
            raise CheckpointError(
                f"{path}: holds weights but no whole training state: it can't be resumed; to start from its weights, "
                f"set training.optimizer.reset_training_state to true and training.checkpointing.resume_ckpt to it"
            )
        check_weights(self.model, saved.model, path)
        check_training_state(saved, self.step, path)
        load_weights(self.model, saved.model, path)
        try:
            self.step.load_state_dict(
                {
                    "optimizer": saved.optimizer,
                    "scaler": saved.extra["scaler"],
                    "lr_scheduler": saved.lr_scheduler,
                    "fwdbwd_pass_step": saved.fwdbwd_pass_step,
                    "param_update_step": saved.param_update_step,
                    "window": saved.extra["window"],
                }
            )
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from error

    def start_from(self, path: Path) -> None:
        """Start from a checkpoint, dropping of it what the configuration's ``optimizer.reset_*`` say.

        Raises:
            CheckpointError: as :meth:`resume`; with ``reset_training_state`` weights that fit are enough.
        """
        wanted = self.config.training.optimizer
        if wanted.reset_training_state:
            load_weights(self.model, read_checkpoint(path, self.device).model, path)
            return
        self.resume(path)
        optimizer, schedule = self.step.optimizer, self.step.lr_scheduler
        if wanted.reset_weight_decay:
            for group, fresh in zip(optimizer.param_groups, _groups(self.model, wanted), strict=True):
                group["weight_decay"] = fresh["weight_decay"]
        if wanted.reset_lr:
            assert isinstance(schedule, torch.optim.lr_scheduler.LambdaLR)
            schedule.base_lrs = [wanted.lr] * len(schedule.base_lrs)
            for group, factor in zip(optimizer.param_groups, schedule.lr_lambdas, strict=True):
                group["initial_lr"], group["lr"] = wanted.lr, wanted.lr * factor(schedule.last_epoch)

    def _synchronised_on_the_last_pass(self) -> AbstractContextManager[None]:
        if isinstance(self._module, DistributedDataParallel) and not self.step.next_backward_ends_window:
            return self._module.no_sync()
        return contextlib.nullcontext()


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on parameters of two dimensions or more."""
    return torch.optim.AdamW(_groups(model, config), lr=config.lr, betas=(config.beta1, config.beta2))


def _groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def make_schedule(optimizer: torch.optim.Optimizer, warmup: int, updates: int) -> torch.optim.lr_scheduler.LambdaLR:
    """A linear rise over ``warmup`` optimizer steps, then a cosine down to 0 after ``updates`` of them in all."""

    def factor(update: int) -> float:
        if update < warmup:
            return (update + 1) / warmup
        share = (update - warmup) / max(1, updates - warmup)
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _largest_of_all(verdicts: Tensor) -> Tensor:
    torch.distributed.all_reduce(verdicts, op=torch.distributed.ReduceOp.MAX)
    return verdicts
