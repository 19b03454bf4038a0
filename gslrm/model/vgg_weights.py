"""VGG19's convolutions from a file that the user names; nothing is ever fetched."""

from __future__ import annotations

import math
import os
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gslrm.files import is_file, one_line

CHANNELS = (3, 64, 64, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512, 512, 512)
"""Channels of the picture and after each of VGG19's first 14 convolutions; the last two are not needed."""
NAMES = (
    "conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3", "conv3_4",
    "conv4_1", "conv4_2", "conv4_3", "conv4_4", "conv5_1", "conv5_2",
)  # fmt: skip
"""The convolutions' names in the public .mat file, and in a safetensors file of ours."""
TORCHVISION = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30)
"""Their places in `torchvision.models.vgg19().features`."""
LARGEST_FILE = 2**30
"""Bytes of a file, and of what is compressed in it: the whole network has 575 million."""
_LONGEST_HEADER = 2**20
_COMPRESSED = 15  # MATLAB's miCOMPRESSED


@dataclass(frozen=True)
class VggWeights:
    """Kernels and biases of the first 14 convolutions, in order.

    Raises ValueError for a missing layer, a wrong shape or a number that is not finite, naming the layer.
    """

    kernels: tuple[Float[Tensor, "out in 3 3"], ...]
    biases: tuple[Float[Tensor, " out"], ...]

    def __post_init__(self) -> None:
        if len(self.kernels) != len(NAMES) or len(self.biases) != len(NAMES):
            raise ValueError(f"{len(self.kernels)} kernels and {len(self.biases)} biases, expected {len(NAMES)} each")
        for i, name in enumerate(NAMES):
            for kind, value, shape in (
                ("kernel", self.kernels[i], (CHANNELS[i + 1], CHANNELS[i], 3, 3)),
                ("bias", self.biases[i], (CHANNELS[i + 1],)),
            ):
                if tuple(value.shape) != shape:
                    raise ValueError(f"{kind} of {name} has shape {tuple(value.shape)}, expected {shape}")
                if not torch.isfinite(value).all():
                    raise ValueError(f"{kind} of {name} holds a NaN or an infinity")


def random_weights(seed: int) -> VggWeights:
    """Weights for tests: normal of variance 2 / fan-in, which keeps the features' size, and small biases."""
    rng = torch.Generator().manual_seed(seed)
    kernels, biases = [], []
    for inner, outer in pairwise(CHANNELS):
        kernels.append(torch.randn(outer, inner, 3, 3, generator=rng) * math.sqrt(2 / (9 * inner)))
        biases.append(torch.randn(outer, generator=rng) * 0.1)
    return VggWeights(tuple(kernels), tuple(biases))


def read_weights(path: str | Path) -> VggWeights:
    """Weights of VGG19 as the Visual Geometry Group trained it, in float32, from one of

    - `imagenet-vgg-verydeep-19.mat`, the public MatConvNet file (kernels stored (height, width, in, out));
    - a `.safetensors` file with torchvision's names (`features.0.weight`, `features.0.bias`, …);
    - a `.safetensors` file with the .mat file's names (`conv1_1.weight`, `conv1_1.bias`, …).

    The weights must want pictures on the scale 0–255 minus the mean, red first, as the .mat file's do. Those
    that torchvision trained want another scale: they load, but mean something else.

    Raises FileNotFoundError when there is no such file, ValueError when it is not one of these, has a layer
    missing, or has a layer of another shape; both name the file.
    """
    path = Path(path)
    if not is_file(path):
        raise FileNotFoundError(f"{path}: no such file; VGG19's weights are never fetched, name a file")
    readers = {".mat": _from_mat, ".safetensors": _from_safetensors}
    if path.suffix not in readers:
        raise ValueError(f"{path}: VGG19's weights are read from a .mat or .safetensors file, not {path.suffix!r}")
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError(f"{path}: has {path.stat().st_size} bytes, which VGG19's weights don't need")
    try:
        return readers[path.suffix](path)
    except ValueError as error:
        raise ValueError(f"{path}: {one_line(str(error))}") from error


def _from_safetensors(path: Path) -> VggWeights:
    try:
        with path.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > _LONGEST_HEADER:
                raise ValueError("not a safetensors file (its header is too long)")
        tensors = load_file(path)
    except (SafetensorError, OSError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"not a safetensors file ({error})") from error
    torchvision = any(name.startswith("features.") for name in tensors)
    layers = [f"features.{i}" for i in TORCHVISION] if torchvision else list(NAMES)
    return VggWeights(_pick(tensors, layers, "weight"), _pick(tensors, layers, "bias"))


def _pick(tensors: Mapping[str, Tensor], layers: list[str], kind: str) -> tuple[Tensor, ...]:
    missing = [name for name in (f"{layer}.{kind}" for layer in layers) if name not in tensors]
    if missing:
        there = ", ".join(sorted(tensors)[:4]) or "nothing"
        raise ValueError(f"{', '.join(missing[:4])} missing ({len(missing)} in all); the file holds {there}, …")
    found = {f"{layer}.{kind}": tensors[f"{layer}.{kind}"] for layer in layers}
    for name, tensor in found.items():
        if not tensor.dtype.is_floating_point:
            raise ValueError(f"{name} is of {tensor.dtype}, expected floating point")
    return tuple(tensor.float() for tensor in found.values())


def _from_mat(path: Path) -> VggWeights:
    try:
        from scipy.io import loadmat, whosmat
    except ImportError as error:
        raise ValueError("reading a .mat file needs scipy: pip install scipy") from error
    _refuse_bomb(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damage, which shows in what is read
            content = loadmat(str(path), variable_names=["layers"])
            names = [] if "layers" in content else sorted(name for name, _, _ in whosmat(str(path)))
    # A damaged file stumbles in any way, a MemoryError for sizes that it only claims among them.
    except Exception as error:
        raise ValueError(f"not a MATLAB file that scipy can read ({one_line(str(error), 200)})") from error
    if "layers" not in content:
        raise ValueError(f"no 'layers' in it; it holds {names[:8]}")
    try:
        found = dict(_mat_layer(cell) for cell in content["layers"].flat)
    except (AttributeError, IndexError, TypeError) as error:
        raise ValueError("'layers' is not a list of MatConvNet layers") from error
    missing = [name for name in NAMES if found.get(name) is None]
    if missing:
        raise ValueError(f"no weights for {', '.join(missing)}")
    kernels, biases = [], []
    for name in NAMES:
        kernel, bias = found[name] or (np.zeros(0), np.zeros(0))
        for array in (kernel, bias):
            if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
                raise ValueError(f"kernel or bias of {name} is no array of floating point")
        if kernel.ndim != 4:
            raise ValueError(f"kernel of {name} has shape {kernel.shape}, expected (3, 3, in, out)")
        kernels.append(_tensor(kernel.transpose(3, 2, 0, 1)))
        biases.append(_tensor(bias.reshape(-1)))
    return VggWeights(tuple(kernels), tuple(biases))


def _refuse_bomb(path: Path) -> None:
    """Raise ValueError for compressed data that is longer than any VGG19's: a file of kilobytes may hold gigabytes."""
    inflated = 0
    with path.open("rb") as file:
        head = file.read(128)
        if b"\0" in head[:4]:
            raise ValueError("not a MATLAB file of version 5, as VGG19's is")
        order: Literal["big", "little"] = "big" if head[126:] == b"MI" else "little"
        while len(tag := file.read(8)) == 8:
            kind, left = int.from_bytes(tag[:4], order), int.from_bytes(tag[4:], order)
            decompressor = zlib.decompressobj()
            while kind == _COMPRESSED and left > 0 and not decompressor.eof and (piece := file.read(min(left, 2**16))):
                left -= len(piece)
                while piece and not decompressor.eof:
                    try:
                        inflated += len(decompressor.decompress(piece, 2**20))
                    except zlib.error as error:
                        raise ValueError(f"not a MATLAB file that scipy can read ({error})") from error
                    piece = decompressor.unconsumed_tail
                    if inflated > LARGEST_FILE:
                        raise ValueError("not VGG19's weights: what is compressed in it is longer than those")
            file.seek(left, os.SEEK_CUR)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _mat_layer(cell: np.ndarray) -> tuple[str, tuple[np.ndarray, np.ndarray] | None]:
    """A MatConvNet layer's name and, where it has them, its kernel and bias: fields of a 1 × 1 struct."""
    fields = cell.dtype.names or ()
    if "name" not in fields or not cell.size:
        raise ValueError("'layers' is not a list of MatConvNet layers")
    layer = cell.flat[0]
    name = str(layer["name"].flat[0]) if layer["name"].size else ""
    if "weights" not in fields or layer["weights"].size != 2:
        return name, None
    kernel, bias = layer["weights"].flat
    return name, (kernel, bias)
