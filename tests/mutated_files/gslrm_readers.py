"""The training's readers: scenes, configurations, checkpoints, weights."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from gslrm.config import config_to_yaml, load_config
from gslrm.data.cameras import Frame, write_cameras
from gslrm.model.checkpoint import CheckpointError, load_weights, read_checkpoint
from gslrm.model.gslrm import GSLRM
from gslrm.model.vgg_weights import read_weights
from gslrm.train import main as train
from gslrm.training.trainer import Trainer
from tests.mutated_files import mutations
from tests.mutated_files.reader import Reader, json_mutant, spoiling, yaml_mutant

SIDE = 16  # of the scenes' pictures, px


# Scenes, configurations, checkpoints and weights.

_OPTIONS = ["--preset", "tiny", "--device", "cpu", "--steps", "1", "--amp", "fp32"]
_SMALL = [
    f"model.image_tokenizer.image_size={SIDE}",
    "training.dataset.num_views=2",
    "training.dataset.num_input_views=1",
    "training.schedule.warmup=0",
]


def _set(*settings: str) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


def _write_scene(folder: Path, name: str = "scene") -> None:
    scene = folder / name
    (scene / "images").mkdir(parents=True)
    frames = []
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 256, (SIDE, SIDE, 4), dtype=np.uint8)
        Image.fromarray(pixels).save(scene / f"images/{i}.png")
        w2c = np.eye(4)
        w2c[2, 3] = 2.7
        frames.append(Frame(SIDE, 20.0, 20.0, 8.0, 8.0, w2c, f"images/{i}.png"))
    write_cameras(scene, name, frames)


def _write_list(folder: Path) -> None:
    for name in ("one", "two"):
        _write_scene(folder, name)
    (folder / "list.txt").write_text("# scenes\none\n\ntwo\n")


def _spoil_list(folder: Path, rng: random.Random) -> None:
    entries = (
        "one",
        "../one",
        "/etc",
        "two\0",
        "x" * 5000,
        "é",
        "..",
        ".",
        "#",
        "\ud800",
        " one ",
        "one/../two",
        "/dev/zero",
    )
    if rng.random() < 0.5:
        spoiling("list.txt", mutations.mutated_bytes)(folder, rng)
        return
    lines = [rng.choice(entries) for _ in range(rng.randrange(1, 4))]
    (folder / "list.txt").write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))


def _train(scene: str) -> Callable[[Path], int]:
    def run(folder: Path) -> int:
        out = folder / "out"
        return train([*_OPTIONS, *_set(*_SMALL), "--scene", str(folder / scene), "--out", str(out)])

    return run


def _write_config(folder: Path) -> None:
    (folder / "config.yaml").write_text(config_to_yaml(load_config("tiny")))


def _train_config(folder: Path) -> int:
    # What it says is accepted or refused; with no scene to train on, nothing is built from it.
    return train(
        ["--config", str(folder / "config.yaml"), "--scene", str(folder / "none"), "--out", str(folder / "out")]
    )


class Resumed:
    """A training that takes up checkpoints again and again, and must be as it was after each that it refuses."""

    def __init__(self, folder: Path) -> None:
        self.config = load_config("tiny", _SMALL)
        self.trainer = Trainer(self.config)
        for parameter in self.trainer.model.parameters():
            parameter.grad = torch.ones_like(parameter)
        self.trainer.step.optimizer.step()
        self.mark = folder / "executed"

    def write(self, folder: Path) -> None:
        self.trainer.save(folder / "checkpoint.pt")

    def spoil(self, folder: Path, rng: random.Random) -> None:
        path = folder / "checkpoint.pt"
        if rng.random() < 0.35:
            entries = torch.load(path, weights_only=True)
            hostile = (None, True, -1, 2**70, 0.5, float("nan"), "x", "../x", [], {}, torch.ones(2), torch.zeros(()),
            torch.ones(1).expand(9, 9),
                       torch.full((3,), torch.nan), torch.ones(2, dtype=torch.int64), torch.empty(3, device="meta"),
                       torch.eye(2).to_sparse(),
                       torch.ones(4, dtype=torch.complex64), [None] * 500, b"x")  # fmt: skip
            whole = rng.random() < 0.3
            part = entries if whole else entries[rng.choice([k for k in entries if isinstance(entries[k], dict)])]
            for _ in range(rng.choice((1, 1, 2))):
                mutations.mutate_tree(part, rng, hostile)
            torch.save(entries, path)
            return
        spoiling("checkpoint.pt", lambda data, rng: mutations.mutated_zip(data, rng, self.mark))(folder, rng)

    def run(self, folder: Path) -> int:
        before = _state(self.trainer)
        try:
            self.trainer.resume(folder / "checkpoint.pt")
        except CheckpointError as error:
            print(f"train: {error}", file=sys.stderr)
            assert _same(before, _state(self.trainer)), "a refused checkpoint changed something"
            return 2
        finally:
            assert not self.mark.exists(), "a file's code was run"
        return 0


def _state(trainer: Trainer) -> list[Any]:
    state = {**trainer.model.state_dict(), "step": trainer.step.state_dict()}
    found, pending = [], [state]
    while pending:
        inner: Any = pending.pop()
        if isinstance(inner, dict):
            pending += inner.values()
        elif isinstance(inner, (list, tuple)):
            pending += inner
        else:
            found.append(inner.clone() if isinstance(inner, torch.Tensor) else inner)
    return found


def _same(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in zip(a, b, strict=True)
    )


def _train_resume(folder: Path) -> int:
    scene = folder / "scene"
    if not scene.exists():
        _write_scene(folder)
    (folder / "out").mkdir(exist_ok=True)
    (folder / "out/checkpoint.pt").unlink(missing_ok=True)
    os.rename(folder / "checkpoint.pt", folder / "out/checkpoint.pt")
    return train([*_OPTIONS, *_set(*_SMALL), "--scene", str(scene), "--out", str(folder / "out"), "--resume"])


def _told(read: Callable[[], Any]) -> int:
    """As the training command tells of what its readers raise."""
    try:
        read()
    except (ValueError, OSError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    return 0


_LITTLE = GSLRM(load_config("tiny", _SMALL).model)


def _read_safetensors(folder: Path) -> int:
    path = folder / "a.safetensors"
    return _told(lambda: load_weights(GSLRM(load_config("tiny", _SMALL).model), read_checkpoint(path).model, path))


def _write_mat(folder: Path) -> None:
    from scipy.io import savemat

    from gslrm.model.vgg_weights import NAMES

    layers = np.empty((1, len(NAMES)), dtype=object)
    for i, name in enumerate(NAMES):
        weights = np.empty((1, 2), dtype=object)
        weights[0, 0], weights[0, 1] = np.ones((3, 3, 2, 2), np.float32), np.ones((2, 1), np.float32)
        layers[0, i] = {"name": name, "weights": weights}
    savemat(folder / "a.mat", {"layers": layers}, do_compression=True)
    savemat(folder / "b.mat", {"layers": layers})


def _spoil_mat(folder: Path, rng: random.Random) -> None:
    if rng.random() < 0.5:
        shutil.copy(folder / "b.mat", folder / "a.mat")
    spoiling("a.mat", mutations.mutated_bytes)(folder, rng)


def gslrm_readers(folder: Path) -> list[Reader]:
    """All of them; ``folder`` is for what outlasts a run."""
    resumed = Resumed(folder)
    return [
        Reader("cameras", 8, _write_scene, spoiling("scene/opencv_cameras.json", json_mutant), _train("scene")),
        Reader(
            "scene's picture", 6, _write_scene, spoiling("scene/images/0.png", mutations.mutated_png), _train("scene")
        ),
        Reader("scene list", 3, _write_list, _spoil_list, _train("list.txt")),
        Reader("configuration", 8, _write_config, spoiling("config.yaml", yaml_mutant), _train_config, good=2),
        Reader("checkpoint", 10, resumed.write, resumed.spoil, resumed.run),
        Reader("checkpoint in training", 3, resumed.write, resumed.spoil, _train_resume),
        Reader(
            "safetensors weights",
            4,
            lambda folder: save_file(_LITTLE.state_dict(), folder / "a.safetensors"),
            spoiling("a.safetensors", mutations.mutated_safetensors),
            _read_safetensors,
        ),
        Reader(
            "VGG19 in safetensors",
            2,
            lambda folder: save_file(
                {"conv1_1.weight": torch.ones(2, 2), "x": torch.ones(3)}, folder / "a.safetensors"
            ),
            spoiling("a.safetensors", mutations.mutated_safetensors),
            lambda folder: _told(lambda: read_weights(folder / "a.safetensors")),
            good=2,  # of few layers: the true ones have 80 MB
        ),
        Reader(
            "VGG19 in .mat",
            3,
            _write_mat,
            _spoil_mat,
            lambda folder: _told(lambda: read_weights(folder / "a.mat")),
            good=2,
        ),
    ]
