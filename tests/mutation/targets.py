"""What is mutated, and by what each mutant is judged: the cheapest stage that decides stands first."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Stage = Mapping[str, Any]

_OTHERS = ("torch", "torch._dynamo", "numpy", "hypothesis", "jaxtyping", "numba", "pytest", "skimage", "PIL.Image")
_WITH_HARNESS = (
    *_OTHERS, "harness.engine.run", "harness.kinds.registry", "harness.goldens.checking", "harness.goldens.folder"
)  # fmt: skip
_BELOW_PROPERTIES = (
    *_OTHERS, "gslrm.model.utils_losses", "gslrm.testing.single_terms", "gslrm.testing.tiny_training",
    "harness.adapters", "harness.rehearsal.rehearsal", "harness.trials.left_alive", "harness.trials.rank_pair",
)  # fmt: skip
_FLOAT32, _HALVES = ["float32"], ["float16-inputs", "cpu-autocast-bfloat16"]
_SEED = 0


@dataclass(frozen=True, eq=False)
class Target:
    """Modules that are judged alike.

    Attributes:
        name: as ``--only`` takes it.
        patterns: of the modules, relative to the project; ``!`` before a pattern leaves out.
        stages: for :mod:`tests.mutation.judge`, in this order.
        imported: what isn't mutated and takes its time to import: done once for all.
        narrowed: one stage is folders of tests, of which a mutant meets those that reach it
            (:mod:`tests.mutation.reached`).
        compiles: Numba compiles them, so that nothing compiled may be kept from one mutant to the next.
    """

    name: str
    patterns: tuple[str, ...]
    stages: tuple[Stage, ...]
    imported: tuple[str, ...]
    narrowed: bool = False
    compiles: bool = False

    @property
    def tests(self) -> tuple[Stage, ...]:
        """The stages that are tests of which a mutant meets some."""
        stages = self.stages if self.narrowed else ()
        return tuple(stage for stage in stages if stage["by"] == "tests" and not stage.get("whole"))

    def files(self, root: Path) -> list[str]:
        """Its modules, sorted."""
        wanted = [pattern for pattern in self.patterns if not pattern.startswith("!")]
        unwanted = [pattern[1:] for pattern in self.patterns if pattern.startswith("!")]
        found = {path.relative_to(root).as_posix() for pattern in wanted for path in root.glob(pattern)}
        return sorted(file for file in found if not any(fnmatch.fnmatch(file, pattern) for pattern in unwanted))


def _check(role: str, spec: str, precisions: Sequence[str], examples: int, **subject: Any) -> Stage:
    described = {"spec": spec, "root": None, "similarity": False, **subject}
    return {
        "by": "check",
        "role": role,
        "subject": described,
        "precisions": list(precisions),
        "examples": examples,
        "seed": _SEED,
    }


def _masked_ssim(precisions: Sequence[str], examples: int, path: str) -> Stage:
    spec = "gslrm.model.utils_losses:MaskedSsimLoss"
    return _check("loss", spec, precisions, examples, truth="masked-ssim", arguments={"path": path})


def _step(precisions: Sequence[str], examples: int) -> Stage:
    return _check("step", "gslrm.training.amp_step:AmpStep", precisions, examples, truth="auto")


def _training(precisions: Sequence[str], examples: int) -> Stage:
    return _check("step", "gslrm.testing.tiny_training:TinyTraining", precisions, examples, truth="auto")


def _goldens(only: str, *precisions: str) -> Stage:
    return {"by": "goldens", "only": only, "precisions": list(precisions)}


def _tests(*folders: str, whole: bool = False) -> Stage:
    return {"by": "tests", "arguments": list(folders), "whole": whole}


def _catalogue(rights: Sequence[str], strict: Sequence[str], examples: int, seconds: float) -> Stage:
    names = [f"right-{name}" for name in (*strict, *rights)]
    return {
        "by": "catalogue",
        "rights": names,
        "strict": names[: len(strict)],
        "examples": examples,
        "seconds": seconds,
        "seed": _SEED,
    }


# Cheap, and of the edges: what they find needs no check.
_LOSS_EDGES = (_goldens("loss_refusals", *_FLOAT32), _goldens("ssim_calls", *_FLOAT32))
_STEP_EDGES = (_goldens("step_edges", *_FLOAT32), _goldens("step_refusals", *_FLOAT32))
# `harness check` takes the compiled way where Numba is installed, and elsewhere the other.
_ISLANDS = _goldens("islands_ssim", *_FLOAT32)
_BY_TORCH = (_masked_ssim(_FLOAT32, 25, "torch"), _ISLANDS, _masked_ssim(_HALVES, 25, "torch"))
_BY_NUMBA = (
    _goldens("stable.*", *_FLOAT32, *_HALVES),
    _masked_ssim(_FLOAT32, 25, "auto"),
    _masked_ssim(_HALVES, 25, "auto"),
)
_OTHER_LOSSES = (
    _goldens("term_ssim.*", *_FLOAT32),
    _goldens("foreground.*", *_FLOAT32),
    _goldens("ms_ssim.*", *_FLOAT32),
    _goldens("l1.*", *_FLOAT32),
    _check("loss", "gslrm.testing.single_terms:SsimTerm", _FLOAT32, 25, truth="ssim"),
)

# Right ones that are cheap, of every kind of definition: with kinks, without, of points, in float32's rounding.
_KNOWN = _catalogue(
    ("term-masked-mse", "term-pixel-alignment", "float32-gaussian", "other-words", "averages", "limited"),
    strict=("masked-ssim", "amp-step"),
    examples=4,
    seconds=90.0,
)
_OF_PROPERTIES = _tests("tests/harness/properties")
# Those that search for nothing.
_QUICK = "ranks verdict sampling skip_reason kept sameness step_edges edges messages recorded claims"
_OF_PROPERTIES_QUICK = _tests(
    *(f"tests/harness/properties/test_{name}.py" for name in _QUICK.split()),
    whole=True,
)

TARGETS = (
    Target(
        "ssim",
        tuple(f"gslrm/model/{name}.py" for name in ("ssim_difference", "ssim_plain", "gaussian_window")),
        (*_LOSS_EDGES, *_BY_TORCH, *_OTHER_LOSSES, _goldens("stable.*", *_FLOAT32)),
        imported=_WITH_HARNESS,
    ),
    Target(
        "boxes",
        ("gslrm/model/foreground_boxes.py",),
        (*_LOSS_EDGES, *_BY_TORCH, *_BY_NUMBA),
        imported=_WITH_HARNESS,
        compiles=True,
    ),
    Target(
        "loss",
        tuple(f"gslrm/model/{name}.py" for name in ("ssim_loss", "utils_losses", "masked_loss", "image_checks")),
        (*_LOSS_EDGES, *_BY_NUMBA, *_OTHER_LOSSES, *_BY_TORCH),
        imported=_WITH_HARNESS,
    ),
    Target(
        "step",
        ("gslrm/training/amp_step.py", "gslrm/training/step_outcome.py", "gslrm/training/monitor.py"),
        (
            *_STEP_EDGES,
            _goldens("amp_step.*", "float32", "cpu-autocast-float16"),
            _step(["float32", "cpu-autocast-float16"], 10),
            _training(_FLOAT32, 5),
            _goldens("training_*", "float32"),
        ),
        imported=_WITH_HARNESS,
    ),
    Target(
        "oracle",
        ("harness/oracle/*.py", "!*/__init__.py"),
        (
            _tests("tests/harness/properties/test_recorded.py", whole=True),
            _tests(*(f"tests/harness/{name}" for name in ("oracle", "properties", "trials", "kinds"))),
        ),
        imported=_OTHERS,
        narrowed=True,
    ),
    Target(
        "properties",
        tuple(f"harness/properties/{name}.py" for name in ("loss_[iuv]*", "step_[bor]*", "sameness", "skip_*")),
        (_KNOWN, _OF_PROPERTIES_QUICK, _OF_PROPERTIES),
        imported=_BELOW_PROPERTIES,
        narrowed=True,
    ),
    # Most of the catalogue is run for a mutant of them, since all properties hang on them, or what takes long of it.
    Target(
        "what properties share",
        tuple(f"harness/properties/{name}.py" for name in ("*_property", "claim", "ranks", "sampling", "verdict")),
        (_OF_PROPERTIES_QUICK, _KNOWN, _OF_PROPERTIES),
        imported=_BELOW_PROPERTIES,
        narrowed=True,
    ),
)
