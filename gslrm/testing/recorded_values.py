"""What a refactor of the losses or of training must not change, as plain named values.

Small scenes, weights and steps from fixed seeds, on any device, so that a recorded run can be compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gslrm.config import LossesConfig, load_config
from gslrm.data.synthetic import synthetic_scene
from gslrm.data.views import stack_views
from gslrm.model.gslrm import GSLRM
from gslrm.model.utils_losses import MaskedSsimLoss
from gslrm.training.loss_computer import LossComputer
from gslrm.training.sampling import Sampler
from gslrm.training.trainer import Trainer

_SCENE_VIEWS = 6
# Top, left, rows and columns of each, in pixels. Boxes are found by cells of 32 pixels, and joined where one window
# sees both: where fewer than 10 pixels lie between them.
_ISLANDS = (
    # An angle, whose box holds a dot and is near others: below, then below that; to the right, and what lies beyond.
    (10, 10, 1, 200), (10, 10, 200, 1), (150, 150, 1, 1),
    (215, 120, 1, 1), (222, 180, 1, 1), (190, 218, 1, 1), (100, 225, 1, 1),
    # An angle the other way round: what is seen above and left of it, what only beside that, what not by a pixel.
    (500, 300, 1, 201), (300, 500, 201, 1),
    (293, 440, 1, 1), (289, 360, 1, 1), (420, 292, 1, 1), (360, 289, 1, 1), (278, 300, 1, 1),
    # Alone, one of them over a cell's edge and one in the last pixel.
    (2, 560, 4, 5), (560, 30, 6, 90), (599, 619, 1, 1),
)  # fmt: skip
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


def islands_ssim(device: str) -> dict[str, float | Tensor]:
    """The masked SSIM loss of foregrounds in pieces, and its gradients' sums over blocks of pixels, in float64 by
    torch's operations and in float32 by the default path.

    ``islands`` (600×620 pixels): pieces near and far, some of whose boxes one window sees, some once others joined.
    ``dots`` (1088×1088): more pieces than are kept apart.
    """
    found: dict[str, float | Tensor] = {}
    for name, block in (("islands", 20), ("dots", 64)):
        rendering, target, mask = islands_pictures(name)
        for dtype, path in ((torch.float64, "torch"), (torch.float32, "auto")):
            x, y = (image.to(device, dtype).requires_grad_() for image in (rendering, target))
            loss = MaskedSsimLoss(path=path).to(device)(x, y, mask.to(device))
            label = f"{name}-{str(dtype).removeprefix('torch.')}"
            found[label] = float(loss.detach())
            for of, gradient in zip(("rendering", "target"), torch.autograd.grad(loss, (x, y)), strict=True):
                found[f"{label}-{of}"] = torch.nn.functional.avg_pool2d(gradient, block, divisor_override=1).flatten()
    return found


def islands_pictures(
    name: str,
) -> tuple[Float[Tensor, "1 1 h w"], Float[Tensor, "1 1 h w"], Bool[Tensor, "1 1 h w"]]:
    """Rendering and target in [0, 1] or a little beyond, float64, and the mask of ``islands`` or ``dots``."""
    if name == "islands":
        height, width, boxes = 600, 620, list(_ISLANDS)
    else:
        # The first isn't the leftmost: the box of all has to reach beyond it.
        offsets = [(i, j, (5 * i + 3 * j) % 31, (7 * i + j + 20) % 31) for i in range(17) for j in range(17)]
        dots = [(64 * i + down, 64 * j + right, 1, 1) for i, j, down, right in offsets]
        height, width, boxes = 1088, 1088, dots
    mask = torch.zeros(1, 1, height, width, dtype=torch.bool)
    for top, left, rows, columns in boxes:
        mask[..., top : top + rows, left : left + columns] = True
    row = torch.arange(height, dtype=torch.float64).view(1, 1, -1, 1)
    column = torch.arange(width, dtype=torch.float64).view(1, 1, 1, -1)
    target = 0.5 + 0.4 * torch.sin(0.7 * row + 0.03 * column) * torch.cos(0.4 * column)
    return target + 0.2 * torch.sin(0.9 * row * 0.1 - 0.5 * column), target, mask


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
