"""What a refactor of the losses or of training must not change, as plain named values.

Small scenes, weights and steps from fixed seeds, on any device, so that a recorded run can be compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gslrm.config import LossesConfig, load_config
from gslrm.data.synthetic import synthetic_scene
from gslrm.data.views import stack_views
from gslrm.model.gslrm import GSLRM
from gslrm.training.loss_computer import LossComputer
from gslrm.training.sampling import Sampler
from gslrm.training.trainer import Trainer

_SCENE_VIEWS = 6
# Every term that needs no network from a file.
_ALL_TERMS = LossesConfig(
    l2_loss_weight=1.0,
    ssim_loss_weight=0.5,
    pixelalign_loss_weight=0.1,
    pointsdist_loss_weight=0.1,
    background_loss_weight=1.0,
    masked_l2_loss=True,
    masked_ssim_loss=True,
    masked_pixelalign_loss=True,
)


def loss_terms(device: str) -> dict[str, float | Tensor]:
    """Each term of the loss of a tiny untrained model on the synthetic scene, its weighted total and statistics, and
    the total's gradients by the rendered views (2, 3, 32, 32) and by the points (1, 2, 3, 32, 32).
    """
    config = load_config("tiny")
    size = config.model.image_tokenizer.image_size
    views = stack_views([synthetic_scene(_SCENE_VIEWS, size).select([0, 2])]).to(device)
    with torch.no_grad():
        made = GSLRM(config.model, seed=0).to(device)(views.images[:, :, :3], views.c2w, views.intrinsics)
    # The model puts points on their rays, where the alignment and its gradient are nothing but rounding: off they go.
    aside = 0.05 + 0.1 * (torch.arange(size, device=made.pixel_xyz.device).view(-1, 1) % 2)
    made = replace(made, pixel_xyz=(made.pixel_xyz + aside).requires_grad_())
    # A rendering that is off everywhere: paler, and a little to the side.
    rgb = views.images[:, :, :3]
    rendering = (0.8 * rgb + 0.15 * rgb.roll(1, -1) + 0.02).requires_grad_()
    losses = LossComputer(_ALL_TERMS).to(device)(rendering, views.images, made, input_mask=views.images[:, :, 3:])
    by_rendering, by_points = torch.autograd.grad(losses.total, (rendering, made.pixel_xyz))
    return {
        **losses.numbers(),
        "gradient-rendering": by_rendering,
        "gradient-points": by_points,
    }


def training_run(
    device: str, amp: str = "fp32", steps: int = 20
) -> dict[str, Sequence[float] | Sequence[int] | Sequence[str | None] | Tensor]:
    """Steps of the tiny GS-LRM on the synthetic scene: loss, gradient norm, scale, skip reason and counters of each,
    and the model's parameters at the end, those of fewer than two dimensions (undecayed) by themselves.

    Args:
        amp: ``fp32``, ``bf16`` or ``fp16``.
        steps: optimizer windows.
    """
    overrides = [
        f"training.runtime.use_amp={'false' if amp == 'fp32' else 'true'}",
        f"training.runtime.amp_dtype={'null' if amp == 'fp32' else amp}",
    ]
    config = load_config("tiny", overrides)
    scene = synthetic_scene(_SCENE_VIEWS, config.model.image_tokenizer.image_size)
    sampler, trainer = Sampler([scene], config.training.dataset), Trainer(config, device)
    losses, outcomes, rates = [], [], []
    for step in range(steps):
        losses.append(float(trainer.train_step(sampler.batch(step)).losses.total.detach()))
        outcome = trainer.optimizer_step()
        assert outcome is not None, "the tiny preset has windows of one pass"
        outcomes.append(outcome)
        rates.append(float(trainer.step.optimizer.param_groups[0]["lr"]))
    parameters = list(trainer.model.parameters())
    return {
        "loss": losses,
        "norm": [outcome.grad_norm for outcome in outcomes],
        "scale": [outcome.scale for outcome in outcomes],
        "learning-rate": rates,
        "reason": [None if outcome.reason is None else outcome.reason.value for outcome in outcomes],
        "updates": [trainer.step.param_update_step, trainer.step.fwdbwd_pass_step],
        "matrices": torch.cat([p.detach().flatten() for p in parameters if p.ndim >= 2]),
        "vectors": torch.cat([p.detach().flatten() for p in parameters if p.ndim < 2]),
    }
