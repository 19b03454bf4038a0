"""What the public implementation gives: run in float64 on a CPU, with weights drawn for it, nothing trained.

`tests/gslrm/reference/` holds a part of those numbers, enough for a repository; the whole of them may lie beside the
checkout. Of the inputs it holds all, of the outputs every so manieth number, and of the weights only as many as show
that `drawn_weights` gives them. `python -m tests.gslrm.public_reference FOLDER` makes the part of the whole.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

REDUCED = Path(__file__).with_name("reference")
WHOLE = Path(__file__).resolve().parents[3] / "shared" / "data" / "gslrm_reference"
PROVENANCE = "public implementation, float64, drawn weights; outputs thinned"
LEARNED, PATCH, SIZE, WIDTH, HEAD, LAYERS = 3, 8, 32, 64, 32, 2
VARIANTS = {
    "custom_plucker": {},
    "plucker": {"use_custom_plucker": False},
    "no_clip": {"clip_xyz": False},
    "no_align": {"hard_pixelalign": False},
}
"""What each variant of the model's numbers changes in its settings; `clip_xyz` is on and the model in training."""
_FIELDS = ("xyz", "features", "scaling", "rotation", "opacity")
# Prime, so that what is left lies all over patches, rows and channels.
_EVERY = {"rays": 31, "posed": 37, "weights": 101, "gradients": 29, "gaussians": 17}


@dataclass(frozen=True)
class Reference:
    """One of the two: its tensors by name, and of each kind of output how many numbers each one stands for."""

    model: dict[str, Tensor]
    losses: dict[str, Tensor]
    cases: dict[str, dict[str, Any]]
    every: dict[str, int]

    def thinned(self, kind: str, numbers: Tensor) -> Tensor:
        """Those of a whole output's numbers that the reference holds."""
        return numbers.flatten()[:: self.every[kind]]

    def thinned_gaussians(self, numbers: Tensor) -> Tensor:
        """Rows of the Gaussians that it holds: all learned tokens', and some pixels'. numbers: (1, n, …)."""
        flat = numbers[0].flatten(1)
        return torch.cat([flat[:LEARNED], flat[LEARNED :: self.every["gaussians"]]])

    def weights(self) -> dict[str, Tensor]:
        """The public state dict, float64."""
        held = {name.removeprefix("weights/"): t for name, t in self.model.items() if name.startswith("weights/")}
        return {name: t.double() for name, t in (held if self.every["weights"] == 1 else drawn_weights()).items()}

    def loss_inputs(self) -> dict[str, Tensor]:
        """rendering, target, xyz, ray_o and ray_d, (2, 3, …, 32, 32), float64."""
        held = {name.removeprefix("inputs/"): t for name, t in self.losses.items() if name.startswith("inputs/")}
        return {name: t.double().expand(2, 3, -1, SIZE, SIZE) for name, t in held.items()}


def whole() -> Reference | None:
    """All the numbers, or None where they are not beside this checkout."""
    return _read(WHOLE, dict.fromkeys(_EVERY, 1)) if WHOLE.is_dir() else None


def reduced() -> Reference:
    """The repository's part of them."""
    return _read(REDUCED, _EVERY)


def drawn_weights() -> dict[str, Tensor]:
    """The weights by their public names: 0.15 × normal numbers of torch's generator with seed 5, float32; norms are 1.

    Drawn by the Mersenne twister's stream in numpy, which is frozen, and Box and Muller's formula on blocks of 16 as
    torch applies it, each operation rounded to float32: so the same on every machine and within a few units in the last
    place of what torch's own vector instructions give. Norms have draws of their own, which are dropped.
    """
    shapes = {"gaussian_position_embeddings": (LEARNED, WIDTH), "patch_embedder.1.weight": (WIDTH, 9 * PATCH**2)}
    shapes["input_layer_norm.weight"] = (WIDTH,)
    for i in range(LAYERS):
        shapes |= {f"transformer_layers.{i}.{norm}.weight": (WIDTH,) for norm in ("norm1", "norm2")}
        shapes |= {
            f"transformer_layers.{i}.attn.to_qkv.weight": (3 * WIDTH, WIDTH),
            f"transformer_layers.{i}.attn.fc.weight": (WIDTH, WIDTH),
            f"transformer_layers.{i}.mlp.mlp.0.weight": (4 * WIDTH, WIDTH),
            f"transformer_layers.{i}.mlp.mlp.2.weight": (WIDTH, 4 * WIDTH),
        }
    for decoder, rows in (("gaussian_upsampler.{}", 14), ("pixel_gaussian_decoder.{}", 14 * PATCH**2)):
        norm, linear = ("layernorm", "linear") if "upsampler" in decoder else ("0", "1")
        shapes |= {f"{decoder.format(norm)}.weight": (WIDTH,), f"{decoder.format(linear)}.weight": (rows, WIDTH)}
    stream = np.random.RandomState(5)
    drawn = {
        name: torch.from_numpy(_normal(stream, int(np.prod(shape))).reshape(shape)) for name, shape in shapes.items()
    }
    return {name: 0.15 * t if t.dim() > 1 else torch.ones_like(t) for name, t in drawn.items()}


def _normal(stream: np.random.RandomState, count: int) -> np.ndarray:
    bits = stream.randint(0, 2**32, count, dtype=np.uint64).astype(np.int64) & 0xFFFFFF
    u = (bits / 2**24).reshape(-1, 2, 8)
    radius = _single(np.sqrt(_single(-2 * _single(np.log(1 - u[:, 0])))))
    angle = _single(_single(np.array(2 * np.pi)) * u[:, 1])
    both = np.stack([radius * _single(np.cos(angle)), radius * _single(np.sin(angle))], axis=1)
    return both.reshape(count).astype(np.float32)


def _single(numbers: np.ndarray) -> np.ndarray:
    """Rounded to float32, to be computed with further in float64."""
    return numbers.astype(np.float32).astype(np.float64)


def _read(folder: Path, every: dict[str, int]) -> Reference:
    cases = json.loads((folder / "losses.json").read_text())
    return Reference(_tensors(folder / "model.safetensors"), _tensors(folder / "losses.safetensors"), cases, every)


def _tensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping


def _reduce(folder: Path) -> None:
    """Write the repository's part of the whole that lies in `folder`."""
    every = Reference({}, {}, {}, _EVERY)
    model, losses = _tensors(folder / "model.safetensors"), _tensors(folder / "losses.safetensors")
    for name in model:
        kind = name.split("/")[0] if name.split("/")[0] in _EVERY else name.split("/")[1]
        if kind in _FIELDS:
            model[name] = every.thinned_gaussians(model[name]).contiguous()
        elif kind in _EVERY:
            model[name] = every.thinned(kind, model[name]).contiguous()
    for name in losses:
        if "/grad_" in name:
            losses[name] = every.thinned("gradients", losses[name]).contiguous()
    origin = losses["inputs/ray_o"]
    losses["inputs/ray_o"] = origin[..., :1, :1].contiguous()
    assert torch.equal(losses["inputs/ray_o"].expand_as(origin), origin)
    REDUCED.mkdir(exist_ok=True)
    for name, tensors in (("model", model), ("losses", losses)):
        save_file(tensors, REDUCED / f"{name}.safetensors", {"provenance": PROVENANCE})
    (REDUCED / "losses.json").write_text((folder / "losses.json").read_text())


if __name__ == "__main__":
    _reduce(Path(sys.argv[1]))
