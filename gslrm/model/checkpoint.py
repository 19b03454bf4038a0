"""Checkpoint files: read without running code from them, fitted to a model, and written atomically."""

from __future__ import annotations

import os
import re
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from gslrm.files import is_file, one_line
from gslrm.model.archive import check_archive

WRAPPERS = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put in front of every name."""
_SHOWN = 8  # names of each kind in a message
_LONGEST_HEADER = 2**25  # bytes of JSON in a safetensors file: some 100 000 tensors
_KEYS = ("model", "optimizer", "lr_scheduler", "fwdbwd_pass_step", "param_update_step")
_PLAIN = (Tensor, str, bytes, int, float, bool, type(None), torch.dtype, torch.Size, torch.device)
_MAPPINGS = (dict, OrderedDict, Counter)


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, does not fit or could not be read again; the message says why."""


@dataclass(frozen=True)
class Checkpoint:
    """What a public checkpoint file holds.

    model: the weights by name. optimizer, lr_scheduler: their state dicts, or None. fwdbwd_pass_step: passes
    so far. param_update_step: optimizer steps so far. extra: other entries of the file, by name.
    """

    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Any] | None = None
    lr_scheduler: Mapping[str, Any] | None = None
    fwdbwd_pass_step: int = 0
    param_update_step: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)


def read_checkpoint(path: Path | str, device: torch.device | str = "cpu") -> Checkpoint:
    """A checkpoint file, a file of bare weights, or a safetensors file; its tensors on `device`.

    Files are read with `weights_only`: none of their code is run. They are looked through first, checksums and all
    (`gslrm.model.archive`). Names lose the prefix of a wrapper. Raises CheckpointError for files that are missing,
    damaged, of other things, or with code in them.
    """
    path = Path(path)
    if not is_file(path):
        raise CheckpointError(f"{path}: no such checkpoint file")
    raw = _read(path, device)
    if not isinstance(raw, Mapping):
        raise CheckpointError(f"{path}: holds a {type(raw).__name__}, expected a checkpoint's entries by name")
    if "model" not in raw:
        if not raw or not all(isinstance(value, Tensor) for value in raw.values()):
            held = _listed(list(raw)) or "nothing"
            raise CheckpointError(f"{path}: has no entry 'model', only {held}")
        return Checkpoint(_bare_names(raw, path))
    steps = {}
    for key in _KEYS[3:]:
        value = raw.get(key, 0)
        value = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            raise CheckpointError(f"{path}: {key} is {one_line(repr(value), 40)}, expected a count")
        steps[key] = value
    for key in _KEYS[1:3]:
        if not isinstance(raw.get(key), Mapping | None):
            raise CheckpointError(f"{path}: {key} is a {type(raw[key]).__name__}, expected a state dict")
    return Checkpoint(
        model=_bare_names(raw["model"], path),
        optimizer=raw.get("optimizer"),
        lr_scheduler=raw.get("lr_scheduler"),
        extra={key: value for key, value in raw.items() if key not in _KEYS},
        **steps,
    )


def newest_checkpoint(path: Path | str) -> Path:
    """The file itself; of a folder the checkpoint of the highest number in its name, or the last by name.

    Raises CheckpointError for a folder that holds no .pt, .pth or .safetensors file.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    found = [file for file in path.iterdir() if file.suffix in (".pt", ".pth", ".safetensors") and file.is_file()]
    if not found:
        raise CheckpointError(f"{path}: holds no checkpoint, which is a .pt, .pth or .safetensors file")
    return max(found, key=lambda file: (_last_number(file.stem), file.name))


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str | Path = "the weights") -> None:
    """Copy weights into a model, all or none of them. Raises CheckpointError as `check_weights`."""
    check_weights(model, weights, source)
    model.load_state_dict(dict(weights))


def check_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str | Path = "the weights") -> None:
    """Raise CheckpointError for weights that don't fit the model: a name missing or unexpected, another shape, or no
    finite numbers of floating point.
    """
    own = model.state_dict()
    missing = [name for name in own if name not in weights]
    unexpected = [name for name in weights if name not in own]
    reshaped = [
        f"{name} {tuple(weights[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    kinds = (
        ("missing", missing),
        ("unexpected", unexpected),
        ("of another shape", reshaped),
        ("not finite numbers", [name for name in own if name in weights and not _is_finite(weights[name])]),
    )
    if any(names for _, names in kinds):
        listed = "; ".join(f"{len(names)} {kind}: {_listed(names)}" for kind, names in kinds if names)
        raise CheckpointError(f"{source}: does not fit the model: {listed}")


def save_checkpoint(path: Path | str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint file that `read_checkpoint` reads.

    It is written beside `path`, flushed to the disk, and put in its place in one step: whenever the process
    is killed, `path` holds the old checkpoint or the new one. One process at a time may write to `path`.

    Raises CheckpointError for entries that could not be read again without running code, and OSError when the
    disk refuses.
    """
    path = Path(path)
    taken = [key for key in checkpoint.extra if key in _KEYS]
    if taken:
        raise CheckpointError(f"extra holds {', '.join(taken)}, which a checkpoint has of its own")
    entries = {key: getattr(checkpoint, key) for key in _KEYS} | dict(checkpoint.extra)
    _check_plain(entries, "")
    entries["model"] = dict(checkpoint.model)
    # Always this name, so that what a killed process leaves is overwritten by the next.
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            torch.save(entries, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _read(path: Path, device: torch.device | str) -> Any:
    try:
        if path.suffix == ".safetensors":
            with path.open("rb") as file:
                if int.from_bytes(file.read(8), "little") > _LONGEST_HEADER:
                    raise ValueError("its header is too long")
            return load_file(path, device=str(device))
        check_archive(path)
        return torch.load(path, map_location=device, weights_only=True)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a damaged pickle stumbles in any way
        reason = _first_sentence(error)
        if type(error).__name__ == "UnpicklingError":  # known by its name, so that nothing here imports pickle
            # torch's own message advises to run the file's code.
            reason = "it is damaged, or holds more than tensors and plain values and would run code"
        raise CheckpointError(f"{path}: not a checkpoint that can be read: {reason}") from None


def _bare_names(weights: Any, path: Path) -> dict[str, Tensor]:
    """The weights without wrappers' prefixes, where all names have them."""
    if not isinstance(weights, Mapping) or not weights:
        raise CheckpointError(f"{path}: model holds no weights by name")
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path}: model entry {one_line(repr(name), 80)} is a {type(value).__name__}, no tensor"
            )
    bare = dict(weights)
    while prefix := next((p for p in WRAPPERS if all(name.startswith(p) for name in bare)), None):
        bare = {name.removeprefix(prefix): value for name, value in bare.items()}
    return bare


def _check_plain(value: Any, where: str) -> None:
    """Raise CheckpointError for what `weights_only` would refuse to read."""
    if type(value) in _MAPPINGS:
        for key, inner in value.items():
            _check_plain(key, f"a key of {where or 'the checkpoint'}")
            _check_plain(inner, f"{where}.{key}" if where else str(key))
    elif type(value) in (list, tuple, set):
        for i, inner in enumerate(value):
            _check_plain(inner, f"{where}[{i}]")
    elif not (type(value) in _PLAIN or isinstance(value, nn.Parameter)):
        raise CheckpointError(f"{where} is a {type(value).__name__}, which could not be loaded again safely")


def _last_number(name: str) -> int:
    numbers = re.findall(r"[0-9]+", name)
    return int(numbers[-1]) if numbers else -1


def _is_finite(tensor: Tensor) -> bool:
    floats = tensor.layout == torch.strided and tensor.dtype.is_floating_point and not tensor.is_meta
    return floats and bool(torch.isfinite(tensor).all())


def _listed(names: list[Any]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(one_line(str(name), 100) for name in names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _first_sentence(error: Exception) -> str:
    return one_line(str(error).strip().split("\n")[0].split(". ")[0]) or type(error).__name__


def _sync_folder(folder: Path) -> None:
    """Flush the folder's entry of the new name, where the system allows it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
