"""Every reader of files with a good set of files, a way to spoil them, and the command that reads them."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from gslrm.config import config_to_yaml, load_config
from gslrm.data.cameras import Frame, write_cameras
from gslrm.model.checkpoint import Checkpoint, CheckpointError, load_weights, read_checkpoint
from gslrm.model.gslrm import GSLRM
from gslrm.model.vgg_weights import read_weights
from gslrm.train import main as train
from gslrm.training.trainer import Trainer
from harness.cases.descriptors import (
    Action, LossCase, Mask, MaskKind, PassKind, Perturbation, PerturbationKind, Picture, PictureKind, StepCase, TrainingCase,
)  # fmt: skip
from harness.cli.main import main as harness
from harness.config import Settings
from harness.engine.plan import SubjectKind, Task
from harness.errors import UsageError
from harness.findings.case_file import CaseFile
from harness.goldens.golden_file import read_golden
from harness.goldens.room import GoldenRoom
from harness.goldens.suite import read_suite
from tests.harness.goldens.suites import make_suite
from tests.mutated_files import mutations

LOSS, STEP = "gslrm.model.utils_losses:MaskedSsimLoss", "gslrm.training.amp_step:AmpStep"
TRAINING = "gslrm.training.tiny_training:TinyTraining"
SIDE = 16  # of the scenes' pictures, px


@dataclass(frozen=True)
class Reader:
    """Files in a folder of their own.

    Attributes:
        share: of a campaign, in mutants.
        write: makes the good files in the folder.
        spoil: mutates one of them.
        run: reads them by the command that does; the exit code.
        good: the exit code for the good files.
        verdicts: the command may also come to a verdict (exit 1) on files that the folder's own readers accept.
    """

    name: str
    share: float
    write: Callable[[Path], None]
    spoil: Callable[[Path, random.Random], None]
    run: Callable[[Path], int]
    verdicts: Callable[[Path], bool] = lambda folder: False
    good: int = 0


def _spoiling(
    name: str, mutated: Callable[[bytes, random.Random], bytes], in_place: float = 0.04
) -> Callable[[Path, random.Random], None]:
    def spoil(folder: Path, rng: random.Random) -> None:
        path = folder / name
        if rng.random() < in_place:
            mutations.in_place_of_a_file(path, rng)
        else:
            path.write_bytes(mutated(path.read_bytes(), rng))

    return spoil


def _json(data: bytes, rng: random.Random) -> bytes:
    return mutations.mutated_json(json.loads(data), rng)


def _toml(data: bytes, rng: random.Random) -> bytes:
    return mutations.mutated_lines(data.decode(), mutations.TOML, "=", rng)


def _yaml(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.03:
        return mutations.LAUGHS.encode() + rng.choice((b"", b"model: *a39\n", b"training: {<<: *a39}\n")) + data
    return mutations.mutated_lines(data.decode(), mutations.YAML, ":", rng)


# Cases.


def _write_case(kind: SubjectKind, property_: str, spec: str, case: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        named = {"loss": spec} if kind is SubjectKind.LOSS else {"step": spec}
        images = str(folder / "pictures") if isinstance(case, LossCase) and case.picture.name else None
        if images:
            _write_pictures(folder / "pictures")
        settings = Settings(**named, images=images)
        CaseFile.of(settings, Task(kind, property_, "float32"), case, "m").write(folder / "case.json")

    return write


def _replay(folder: Path) -> int:
    pictures = ["--images", str(folder / "pictures")] if (folder / "pictures").exists() else []
    return harness(["replay", str(folder / "case.json"), *pictures])


def _explain(folder: Path) -> int:
    return harness(["explain", "--brief", str(folder / "case.json")])


def _write_pictures(folder: Path) -> None:
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (12, 14, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    for suffix in ("jpg", "webp", "bmp"):
        Image.fromarray(pixels[..., :3]).save(folder / f"a.{suffix}")


def _spoil_picture(folder: Path, rng: random.Random) -> None:
    name = rng.choice(("a.png", "a.png", "a.png", "a.jpg", "a.webp", "a.bmp"))
    mutated = mutations.mutated_png if name == "a.png" else mutations.mutated_bytes
    _spoiling(f"pictures/{name}", mutated)(folder, rng)
    case = json.loads((folder / "case.json").read_text())
    case["case"]["picture"]["name"] = name
    (folder / "case.json").write_text(json.dumps(case))


_NOISE = Perturbation(PerturbationKind.NOISE, 0.1)
_LOSS_CASE = LossCase(12, 13, 2, picture=Picture(PictureKind.TEXTURE), mask=Mask(MaskKind.DISC, 30), perturbation=_NOISE)
_PICTURE_CASE = LossCase(12, 14, picture=Picture(PictureKind.FILE, 0, "a.png"), mask=Mask(MaskKind.OWN), perturbation=_NOISE)
_STEP_CASE = StepCase(2, 10, 2, (Action.GOOD, Action.RESTORE, Action.LARGE, Action.NAN_LOSS, Action.GOOD))
_TRAINING_CASE = TrainingCase(1, 10, 2, (PassKind.GOOD, PassKind.NAN_PIXELS))


# Goldens.

_OTHER_KINDS = """
[group.loss]
kind = "loss"
subject = "gslrm.model.utils_losses:MaskedSsimLoss"
truth = "masked-ssim"
cases = ["small"]
precisions = ["float32"]
tolerances.value = { relative = 1e-3 }
requires = ["torch"]

[group.step]
kind = "step"
subject = "gslrm.training.amp_step:AmpStep"
truth = "step"
cases = ["program"]
precisions = ["float32"]
tolerances.norm = { relative = 1e-4, absolute = 1e-6, ulps = 2 }

[case.small]
hidden_mask_value = 0.25
pair.height = 11
pair.width = 12
pair.seed = 3
pair.picture.kind = "texture"
pair.mask.kind = "disc"
pair.mask.pixels = 9
pair.perturbation.kind = "noise"
pair.perturbation.magnitude = 0.1

[case.program]
accumulation = 2
scale_exponent = 10
actions = ["good", "large", "nan loss", "good"]
"""


def _write_goldens(folder: Path) -> None:
    GoldenRoom(make_suite(folder)).update("the first")


def _write_suite(folder: Path) -> None:
    suite = make_suite(folder, names=("a",)) / "suite.toml"
    suite.write_text(suite.read_text() + _OTHER_KINDS)
    GoldenRoom(folder / "golden").update("the first")


def _spoil_golden(folder: Path, rng: random.Random) -> None:
    path = folder / "golden/recorded/a.json"
    arrays = path.with_suffix(".safetensors")
    if rng.random() < 0.5:
        _spoiling("golden/recorded/a.json", _json)(folder, rng)
        return
    _spoiling("golden/recorded/a.safetensors", mutations.mutated_safetensors)(folder, rng)
    if rng.random() < 0.8 and arrays.is_file() and arrays.stat().st_size:
        document = mutations.with_checksum(json.loads(path.read_text()), arrays.read_bytes())
        path.write_text(json.dumps(document))


def _golden_check(folder: Path) -> int:
    return harness(["golden", "check", "--golden-dir", str(folder / "golden")])


def _goldens_are_read(folder: Path) -> bool:
    """The files are well formed, so that a failed comparison is a verdict."""
    try:
        read_suite(folder / "golden")
        for path in (folder / "golden/recorded").glob("*.json"):
            read_golden(path)
    except UsageError:
        return False
    return True


# Settings.


def _write_settings(folder: Path) -> None:
    _write_goldens(folder)
    (folder / "environment.json").write_text("{}")
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "x"\n\n[tool.harness]\nloss = "{LOSS}"\nstep = "{STEP}"\nsubject-root = "."\n'
        'similarity = false\ntruth = "masked-ssim"\nprecisions = ["float32"]\nproperties = ["range"]\nmax-examples = 3\n'
        'seed = 1\nmax-time = 10.5\nimages = "."\ncases-dir = "cases"\ngolden-dir = "golden"\nworkers = 1\n'
    )


def _golden_check_here(folder: Path) -> int:
    before = Path.cwd()
    finders, places = list(sys.meta_path), list(sys.path)  # a subject root stays entered
    os.chdir(folder)
    try:
        return harness(["golden", "check", "--only", "a"])
    finally:
        os.chdir(before)
        sys.meta_path[:], sys.path[:] = finders, places


def _spoil_environment(folder: Path, rng: random.Random) -> None:
    names = ("MAX_EXAMPLES", "SEED", "MAX_TIME", "WORKERS", "SIMILARITY", "PRECISIONS", "SUBJECT_ROOT", "GOLDEN_DIR", "TRUTH")
    values = ("9" * 5000, "nan", "inf", "-1", "0", "x", "../x", "1e999", "\udcff", "true", ",,,", "\n", "é" * 3000, "0x10", "1_0")
    (folder / "environment.json").write_text(json.dumps({f"HARNESS_{rng.choice(names)}": rng.choice(values)}))


def _golden_check_in_environment(folder: Path) -> int:
    given = json.loads((folder / "environment.json").read_text())
    os.environ.update(given)
    try:
        return _golden_check_here(folder)
    finally:
        for name in given:
            del os.environ[name]


# Scenes, configurations, checkpoints and weights.

_OPTIONS = ["--preset", "tiny", "--device", "cpu", "--steps", "1", "--amp", "fp32"]
_SMALL = [f"model.image_tokenizer.image_size={SIDE}", "training.dataset.num_views=2", "training.dataset.num_input_views=1", "training.schedule.warmup=0"]


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
    entries = ("one", "../one", "/etc", "two\0", "x" * 5000, "é", "..", ".", "#", "\ud800", " one ", "one/../two", "/dev/zero")
    if rng.random() < 0.5:
        _spoiling("list.txt", mutations.mutated_bytes)(folder, rng)
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
    return train(["--config", str(folder / "config.yaml"), "--scene", str(folder / "none"), "--out", str(folder / "out")])


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
            hostile = (None, True, -1, 2**70, 0.5, float("nan"), "x", "../x", [], {}, torch.ones(2), torch.zeros(()), torch.ones(1).expand(9, 9),
                       torch.full((3,), torch.nan), torch.ones(2, dtype=torch.int64), torch.empty(3, device="meta"), torch.eye(2).to_sparse(),
                       torch.ones(4, dtype=torch.complex64), [None] * 500, b"x")  # fmt: skip
            whole = rng.random() < 0.3
            part = entries if whole else entries[rng.choice([k for k in entries if isinstance(entries[k], dict)])]
            for _ in range(rng.choice((1, 1, 2))):
                mutations.mutate_tree(part, rng, hostile)
            torch.save(entries, path)
            return
        _spoiling("checkpoint.pt", lambda data, rng: mutations.mutated_zip(data, rng, self.mark))(folder, rng)

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
    _spoiling("a.mat", mutations.mutated_bytes)(folder, rng)


def readers(folder: Path) -> list[Reader]:
    """All of them; ``folder`` is for what outlasts a run."""
    loss, step = SubjectKind.LOSS, SubjectKind.STEP
    resumed = Resumed(folder)
    case = _spoiling("case.json", _json)
    return [
        Reader("loss case", 14, _write_case(loss, "accuracy", LOSS, _LOSS_CASE), case, _replay),
        Reader("step case", 6, _write_case(step, "truthful", STEP, _STEP_CASE), case, _replay),
        Reader("training case", 3, _write_case(step, "truthful", TRAINING, _TRAINING_CASE), case, _replay),
        Reader("explained case", 3, _write_case(loss, "accuracy", LOSS, _LOSS_CASE), case, _explain),
        Reader("picture", 10, _write_case(loss, "accuracy", LOSS, _PICTURE_CASE), _spoil_picture, _replay),
        Reader("golden", 12, _write_goldens, _spoil_golden, _golden_check, _goldens_are_read),
        Reader("suite", 8, _write_suite, _spoiling("golden/suite.toml", _toml), _golden_check, _goldens_are_read),
        Reader("settings", 6, _write_settings, _spoiling("pyproject.toml", _toml), _golden_check_here),
        Reader("environment", 2, _write_settings, _spoil_environment, _golden_check_in_environment),
        Reader("cameras", 8, _write_scene, _spoiling("scene/opencv_cameras.json", _json), _train("scene")),
        Reader("scene's picture", 6, _write_scene, _spoiling("scene/images/0.png", mutations.mutated_png), _train("scene")),
        Reader("scene list", 3, _write_list, _spoil_list, _train("list.txt")),
        Reader("configuration", 8, _write_config, _spoiling("config.yaml", _yaml), _train_config, good=2),
        Reader("checkpoint", 10, resumed.write, resumed.spoil, resumed.run),
        Reader("checkpoint in training", 3, resumed.write, resumed.spoil, _train_resume),
        Reader(
            "safetensors weights",
            4,
            lambda folder: save_file(_LITTLE.state_dict(), folder / "a.safetensors"),
            _spoiling("a.safetensors", mutations.mutated_safetensors),
            _read_safetensors,
        ),
        Reader(
            "VGG19 in safetensors",
            2,
            lambda folder: save_file({"conv1_1.weight": torch.ones(2, 2), "x": torch.ones(3)}, folder / "a.safetensors"),
            _spoiling("a.safetensors", mutations.mutated_safetensors),
            lambda folder: _told(lambda: read_weights(folder / "a.safetensors")),
            good=2,  # of few layers: the true ones have 80 MB
        ),
        Reader("VGG19 in .mat", 3, _write_mat, _spoil_mat, lambda folder: _told(lambda: read_weights(folder / "a.mat")), good=2),
    ]
