"""Refactors of our own code, wrong ones and right ones, as edits of a copy of its source."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Refactor:
    """Replaces ``old`` by ``new`` in ``file`` (below ``gslrm/``); an empty ``old`` appends.

    ``goldens``: patterns of the goldens that are then checked. ``path``: which of the SSIM loss' paths is taken where
    nothing else is said; a refactor of one shows on that one alone, and the compiled one is compiled anew in a copy.
    """

    file: str
    old: str
    new: str
    goldens: tuple[str, ...]
    path: str = "torch"

    def apply(self, folder: Path) -> Path:
        """A copy of our package in ``folder``, so refactored."""
        shutil.copytree(ROOT / "gslrm", folder / "gslrm", ignore=shutil.ignore_patterns("__pycache__"))
        path = folder / "gslrm" / self.file
        text = path.read_text()
        if self.old:
            assert text.count(self.old) == 1, f"{self.file} has {text.count(self.old)} times {self.old!r}"
            path.write_text(text.replace(self.old, self.new))
        else:
            path.write_text(text + self.new)
        losses = folder / "gslrm" / LOSSES
        text = losses.read_text()
        assert text.count(_DEFAULT_PATH) == 2
        losses.write_text(text.replace(_DEFAULT_PATH, f'path: str = "{self.path}"'))
        return folder


_DEFAULT_PATH = 'path: str = "auto"'
LOSSES, MASKED, TRIED = "model/utils_losses.py", "model/masked_loss.py", "model/tried_losses.py"
DIFFERENCE, WINDOW = "model/ssim_difference.py", "model/gaussian_window.py"
SSIM, PLAIN = "model/ssim_loss.py", "model/ssim_plain.py"
NUMBA, MASKS = "model/ssim_numba.py", "model/mask_numba.py"
STEP, RENDER = "training/amp_step.py", "rendering/render.py"
TRAINER, TERMS = "training/trainer.py", "training/loss_terms.py"

_TEST = """        nonfinite, over_limit = self._agreed(not math.isfinite(norm), 0 < limit < norm)
"""
_CLIP = """        if 0 < self.grad_clip_norm < norm:
            for gradient in gradients:
                gradient.mul_(self.grad_clip_norm / norm)
"""
_STEP = """        self.scaler.step(self.optimizer)
        self.scaler.update()
"""

WRONG: dict[str, Refactor] = {
    "window sigma 1.4": Refactor(WINDOW, "WINDOW_SIGMA = 1.5", "WINDOW_SIGMA = 1.4", ("stable.photo",)),
    "C2 off by 10 %": Refactor(
        DIFFERENCE, "(K2 * data_range) ** 2, offset", "1.1 * (K2 * data_range) ** 2, offset", ("stable.flat",)
    ),
    "mask >= 0.5": Refactor(SSIM, "foreground = mask > 0.5", "foreground = mask >= 0.5", ("stable.photo",)),
    "mask >= 0.5, compiled": Refactor(
        MASKS, "np.uint8(value > background)", "np.uint8(value >= background)", ("stable.photo",), "numba"
    ),
    "neutral 0.45": Refactor(
        LOSSES, "neutral_value: float = 0.5,", "neutral_value: float = 0.45,", ("stable.tiny-foreground",)
    ),
    "mean over the wrong axis": Refactor(
        PLAIN,
        "weight = 1.0 / (n * c * (h - REACH) * (w - REACH))",
        "weight = 1.0 / (n * c * (h - REACH) * (h - REACH))",
        ("stable.opposite-batch",),
    ),
    "mean over the batch, not the channels": Refactor(
        TRIED, "(pixels * error.shape[1])", "(pixels * error.shape[0])", ("l1.photo",)
    ),
    "luminance gradient dropped": Refactor(
        DIFFERENCE,
        "by_m = torch.mul(by_a, 2.0 - a).sub_(by_v, alpha=2.0).mul_(m)",
        "by_m = by_v.mul(-2.0).mul_(m)",
        ("stable.flat",),
    ),
    "luminance gradient dropped, compiled": Refactor(
        NUMBA,
        "by_m = m * ((one + one - a) * by_a - (by_v + by_v))",
        "by_m = m * (-(by_v + by_v))",
        ("stable.flat",),
        "numba",
    ),
    "skip test on the clipped norm": Refactor(
        STEP, _TEST, _TEST.replace("0 < limit < norm", "0 < limit < min(norm, self.grad_clip_norm)"), ("amp_step.long",)
    ),
    "clip after the scaler's step": Refactor(STEP, _CLIP + _STEP, _STEP + _CLIP, ("amp_step.long",)),
    "scheduler before the step": Refactor(
        STEP,
        _STEP + "        self.param_update_step += 1\n        if self.lr_scheduler is not None:\n"
        "            self.lr_scheduler.step()\n",
        "        if self.lr_scheduler is not None:\n            self.lr_scheduler.step()\n"
        + _STEP
        + "        self.param_update_step += 1\n",
        ("amp_step.faults",),
    ),
    "decay on biases": Refactor(
        STEP,
        "        self.optimizer = optimizer\n",
        "        self.optimizer = optimizer\n        for group in optimizer.param_groups:\n"
        '            group["weight_decay"] = max(g["weight_decay"] for g in optimizer.param_groups)\n',
        ("amp_step.faults",),
    ),
    "decay on the model's vectors": Refactor(
        TRAINER, '"weight_decay": 0.0}', '"weight_decay": config.weight_decay}', ("training_fp32",)
    ),
    "schedule without its warm-up": Refactor(TRAINER, "if update < warmup:", "if False:", ("training_fp32",)),
    "background at the mask's edge": Refactor(TERMS, "mask < 0.5,", "mask <= 0.5 + 0.4,", ("loss_terms",)),
    "points over the wrong axes": Refactor(
        TERMS, "torch.std_mean(fixed, (1, 2),", "torch.std_mean(fixed, (2,),", ("loss_terms",)
    ),
    "background 0.99": Refactor(RENDER, "WHITE = (1.0, 1.0, 1.0)", "WHITE = (0.99, 0.99, 0.99)", ("renderer.back",)),
}
"""Small mistakes, each in code that a golden is of."""

_FUSED = '''

def _plane(size_2d):
    taps = torch.tensor(window_taps(), dtype=size_2d.dtype, device=size_2d.device)
    return torch.outer(taps, taps)[None, None]


def window_mean(planes):
    """One two-dimensional convolution."""
    return F.conv2d(planes[:, None], _plane(planes))[:, 0]


def window_mean_adjoint(maps):
    return F.conv_transpose2d(maps[:, None], _plane(maps))[:, 0]


import torch
'''
_COMPILED = """

planes_loss = torch.compile(planes_loss, dynamic=True)
"""
_ALL = ("stable.tiny", "stable.near", "stable.flat", "stable.photo", "stable.opposite", "stable.empty", "foreground.")

RIGHT: dict[str, Refactor] = {
    "fused filter": Refactor(WINDOW, "", _FUSED, _ALL),
    "reordered sums": Refactor(WINDOW, "enumerate(window_taps()):", "reversed(list(enumerate(window_taps()))):", _ALL),
    "channels last": Refactor(
        MASKED,
        "    return x.to(wide), y.to(wide)\n",
        "    return tuple(i.to(wide).contiguous(memory_format=torch.channels_last) for i in (x, y))\n",
        (*_ALL, "l1.", "l2."),
    ),
    "chunked": Refactor(DIFFERENCE, "CHUNK_PIXELS = 1 << 18", "CHUNK_PIXELS = 1 << 8", (*_ALL, "stable.large")),
    "compiled": Refactor(DIFFERENCE, "", _COMPILED, ("stable.flat",)),
}
