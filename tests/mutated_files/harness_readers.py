"""The harness' own readers: cases, pictures, goldens, settings."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from harness.cases.descriptors import (
    Action,
    LossCase,
    Mask,
    MaskKind,
    PassKind,
    Perturbation,
    PerturbationKind,
    Picture,
    PictureKind,
    StepCase,
    TrainingCase,
)  # fmt: skip
from harness.cases.worlds import OptimizerKind, ParameterKind, Saving, World
from harness.cli.failures import exit_code_of
from harness.cli.main import main as harness
from harness.config import Settings, load_settings
from harness.engine.plan import Task
from harness.engine.result import Call, Status, TaskResult
from harness.errors import UsageError
from harness.findings.baseline import Baseline, read_baseline
from harness.findings.case_file import CaseFile, read_case_file
from harness.findings.known_cases import known_cases
from harness.goldens.folder import GoldenFolder
from harness.goldens.golden_file import read_golden
from harness.goldens.recording import update
from harness.goldens.suite import read_suite
from harness.reports.json_report import write_report
from harness.selfcheck.reading import read_catalogue
from harness.subject_spec import SubjectKind, SubjectSpec
from tests.harness.goldens.suites import make_suite
from tests.harness.reports.made_up_report import convicted_loss, convicted_step
from tests.mutated_files import mutations
from tests.mutated_files.reader import Reader, json_mutant, spoiling, toml_mutant

LOSS, STEP = "gslrm.model.utils_losses:MaskedSsimLoss", "gslrm.training.amp_step:AmpStep"
TRAINING = "gslrm.testing.tiny_training:TinyTraining"


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


def _write_whole_case(folder: Path) -> None:
    """A case file with every field that one may have."""
    loss = f"{LOSS.partition(':')[0]}:SsimLoss"
    settings = Settings(loss=loss, truth="ssim", call="f(x, y)", reduce="mean", scale=0.5)
    task = Task(SubjectKind.LOSS, "finite", "float32")
    file = CaseFile.of(settings, task, _LOSS_CASE, "m", (Call(task, _LOSS_CASE),))
    file.write(folder / "case.json")


def _write_whole_step_case(folder: Path) -> None:
    settings = Settings(step=STEP, promises=("norm-limit=20", "clip-norm=none"), without=("frozen", "nan-loss"))
    world = World(0.25, OptimizerKind.ADAMW_FUSED, ParameterKind.LATE, False, Saving.FILE)
    case = replace(_STEP_CASE, world=world)
    CaseFile.of(settings, Task(SubjectKind.STEP, "truthful", "float32"), case, "m").write(folder / "case.json")


def _write_catalogue(folder: Path) -> None:
    (folder / "catalogue.toml").write_text(
        '[defaults]\ntruth = "auto"\nroot = "."\n[[fault]]\nname = "a"\nkind = "mask"\nabout = "wrong"\n'
        'source = "planted"\nloss = "losses.py:loss"\nproperty = "range"\nprecision = "float32"\nlevel = "rounding"\n'
        'examples = 7\narguments = { size = 11 }\n[[fault]]\nname = "b"\nkind = "script"\nabout = "wrong"\n'
        'source = "planted"\n'
        'script = "train.py"\nrule = "never-raises"\nfaults = ["nan-output"]\nedits = [{ old = "a", new = "b" }]\n'
        'pretend-cuda = true\n[[right]]\nname = "c"\nabout = "right"\nstep = "steps.py:step"\n'
        'precisions = ["float32"]\npromises = ["norm-limit=5"]\n'
    )


def _read_catalogue(folder: Path) -> int:
    """What ``selfcheck`` does before it runs anything."""
    try:
        read_catalogue(folder / "catalogue.toml")
    except UsageError as error:
        return exit_code_of(error, argparse.Namespace())
    return 0


def _may_fail(folder: Path) -> bool:
    """The file is well formed, and so its case may fail, of a loss that isn't what the file now says."""
    try:
        read_case_file(folder / "case.json")
    except UsageError:
        return False
    return True


def _write_regression(folder: Path) -> None:
    (folder / "kept").mkdir()
    _write_case(SubjectKind.LOSS, "accuracy", LOSS, _LOSS_CASE)(folder / "kept")


def _known(folder: Path) -> int:
    """What a check does with regression cases and a baseline before it runs anything."""
    try:
        settings = load_settings({"loss": LOSS, "regressions_dir": str(folder / "kept"), "baseline": "b.json"})
        known_cases(settings, (Task(SubjectKind.LOSS, "accuracy", "float32"),))
        read_baseline(folder / "b.json")
    except UsageError as error:
        return exit_code_of(error, argparse.Namespace())
    return 0


def _write_baseline(folder: Path) -> None:
    tasks = [Task(SubjectKind.LOSS, name, "float32") for name in ("range", "finite")]
    found = [TaskResult(task, Status.VIOLATED, message="m", badness=2.5) for task in tasks]
    day = datetime.date(2030, 1, 31)
    Baseline().updated(found, Settings(loss=LOSS), "a reason", day).write(folder / "b.json")


def _is_another_subject(folder: Path) -> bool:
    """The file is well formed, and names another loss, or says that it is a similarity, so that it may well fail."""
    try:
        file = read_case_file(folder / "case.json")
    except UsageError:
        return False
    return file.subject != SubjectSpec(LOSS)


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
    spoiling(f"pictures/{name}", mutated)(folder, rng)
    case = json.loads((folder / "case.json").read_text())
    case["case"]["picture"]["name"] = name
    (folder / "case.json").write_text(json.dumps(case))


_NOISE = Perturbation(PerturbationKind.NOISE, 0.1)
_LOSS_CASE = LossCase(
    12, 13, 2, picture=Picture(PictureKind.TEXTURE), mask=Mask(MaskKind.DISC, 30), perturbation=_NOISE
)
_PICTURE_CASE = LossCase(
    12, 14, picture=Picture(PictureKind.FILE, 0, "a.png"), mask=Mask(MaskKind.OWN), perturbation=_NOISE
)
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
    update(GoldenFolder(make_suite(folder)), "the first")


def _write_suite(folder: Path) -> None:
    suite = make_suite(folder, names=("a",)) / "suite.toml"
    suite.write_text(suite.read_text() + _OTHER_KINDS)
    update(GoldenFolder(folder / "golden"), "the first")


def _spoil_golden(folder: Path, rng: random.Random) -> None:
    path = folder / "golden/recorded/a.json"
    arrays = path.with_suffix(".safetensors")
    if rng.random() < 0.5:
        spoiling("golden/recorded/a.json", json_mutant)(folder, rng)
        return
    spoiling("golden/recorded/a.safetensors", mutations.mutated_safetensors)(folder, rng)
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
        'similarity = false\ntruth = "masked-ssim"\nprecisions = ["float32"]\nproperties = ["range"]\n'
        'max-examples = 3\nseed = 1\nmax-time = 10.5\nimages = "."\ncases-dir = "cases"\ngolden-dir = "golden"\n'
        "workers = 1\n"
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


# Reports.


def _write_run(folder: Path) -> None:
    write_report(folder / "run.json", convicted_step() if len(folder.name) % 2 else convicted_loss())


def _render(folder: Path) -> int:
    names = ("--html", "--junit", "--markdown", "--sarif")
    return harness(["report", str(folder / "run.json"), *(f"{name}={folder / name[2:]}" for name in names)])


def _spoil_environment(folder: Path, rng: random.Random) -> None:
    names = (
        "MAX_EXAMPLES",
        "SEED",
        "MAX_TIME",
        "WORKERS",
        "SIMILARITY",
        "PRECISIONS",
        "SUBJECT_ROOT",
        "GOLDEN_DIR",
        "TRUTH",
    )
    values = (
        "9" * 5000,
        "nan",
        "inf",
        "-1",
        "0",
        "x",
        "../x",
        "1e999",
        "\udcff",
        "true",
        ",,,",
        "\n",
        "é" * 3000,
        "0x10",
        "1_0",
    )
    (folder / "environment.json").write_text(json.dumps({f"HARNESS_{rng.choice(names)}": rng.choice(values)}))


def _golden_check_in_environment(folder: Path) -> int:
    given = json.loads((folder / "environment.json").read_text())
    os.environ.update(given)
    try:
        return _golden_check_here(folder)
    finally:
        for name in given:
            del os.environ[name]


def harness_readers() -> list[Reader]:
    """All of them."""
    loss, step = SubjectKind.LOSS, SubjectKind.STEP
    case = spoiling("case.json", json_mutant)
    return [
        Reader("loss case", 14, _write_case(loss, "accuracy", LOSS, _LOSS_CASE), case, _replay, _is_another_subject),
        Reader("step case", 6, _write_case(step, "truthful", STEP, _STEP_CASE), case, _replay),
        Reader("training case", 3, _write_case(step, "truthful", TRAINING, _TRAINING_CASE), case, _replay),
        Reader("explained case", 3, _write_case(loss, "accuracy", LOSS, _LOSS_CASE), case, _explain),
        Reader("whole case", 4, _write_whole_case, case, _replay, _may_fail),
        Reader("whole step case", 3, _write_whole_step_case, case, _replay, _may_fail),
        Reader("regression", 3, _write_regression, spoiling("kept/case.json", json_mutant), _known),
        Reader("baseline", 4, _write_baseline, spoiling("b.json", json_mutant), _known),
        Reader("report", 4, _write_run, spoiling("run.json", json_mutant), _render),
        Reader("picture", 10, _write_case(loss, "accuracy", LOSS, _PICTURE_CASE), _spoil_picture, _replay),
        Reader("golden", 12, _write_goldens, _spoil_golden, _golden_check, _goldens_are_read),
        Reader("suite", 8, _write_suite, spoiling("golden/suite.toml", toml_mutant), _golden_check, _goldens_are_read),
        Reader("settings", 6, _write_settings, spoiling("pyproject.toml", toml_mutant), _golden_check_here),
        Reader("catalogue", 3, _write_catalogue, spoiling("catalogue.toml", toml_mutant), _read_catalogue),
        Reader("environment", 2, _write_settings, _spoil_environment, _golden_check_in_environment),
    ]
