"""What a CUDA session runs, in which order and for how long."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ExitCode, unknown_name
from harness.subjects.known_bad import KNOWN_BAD

TOTAL_SECONDS = 570.0
"""What all steps may take together: a little under ten minutes."""
PRECISIONS = ("cuda-float32", "cuda-autocast-float16", "cuda-autocast-bfloat16")
# What a check needs to start its processes and to end, besides the time that it searches.
_CHECK_OVERHEAD = 40.0
_PYTEST = ("-m", "cuda", "-q", "-ra", "-p", "no:cacheprovider")
_MARK = "mark.cuda"
# The default loss alone. Where Triton isn't, the check says so and the step has failed.
_BY_TRITON = ("--loss", "--argument", "path=triton")


@dataclass(frozen=True)
class Step:
    """A command in a process of its own.

    Attributes:
        name: as ``--only`` takes it; its log is ``logs/NAME.log``.
        about: what it is for, in a few words.
        command: the arguments, the program first.
        seconds: after which it is ended.
        expected: the exit status of a step that went as it should.
    """

    name: str
    about: str
    command: tuple[str, ...]
    seconds: float
    expected: int = 0

    def shown(self) -> str:
        """The command as a shell takes it."""
        return shlex.join(self.command)


def steps(out: Path, golden: Path) -> tuple[Step, ...]:
    """All steps, those that are soon done first, so that a limit on the whole cuts short the long ones.

    Args:
        out: where everything is written.
        golden: the goldens' folder, which is copied and not changed.
    """
    python = (sys.executable, "-m")
    comparison = "harness.precision.cuda_policy.proofs.gpu_comparison"
    recording = (*python, "harness.cuda_session.gpu_goldens", "--golden-dir", str(golden))
    return (
        Step("doctor", "versions, GPU, precisions", (*python, "harness", "doctor", "--json", _in(out, "doctor")), 60),
        Step(
            "tests",
            "the tests marked cuda",
            (*python, "pytest", *_PYTEST, f"--junitxml={out / 'tests.xml'}", *_marked()),
            150,
        ),
        Step("emulation", "op by op against the GPU", (*python, comparison, "--json", _in(out, "emulation")), 120),
        Step(
            "goldens",
            "those of CUDA recorded, in a copy of the folder",
            (*recording, "--into", str(out / "golden"), "--json", _in(out, "goldens")),
            120,
        ),
        _check(out, "triton", "the loss by its Triton kernel", _BY_TRITON, 100, ExitCode.HELD),
        _check(out, "check", "the default loss and step", (), 200, ExitCode.HELD),
        *(
            _check(
                out,
                f"known-bad-{bad.spec.rpartition(':')[2]}",
                f"a known-bad {bad.kind}, to be convicted",
                (f"--{bad.kind}", bad.spec),
                100,
                ExitCode.VIOLATED,
            )
            for bad in KNOWN_BAD
        ),
    )


def chosen(plan: Sequence[Step], names: Sequence[str]) -> tuple[Step, ...]:
    """The steps of these names, in the plan's order, or all; ``known-bad`` stands for every step that begins so.

    Raises:
        UsageError: there is no such step.
    """
    known = [step.name for step in plan]
    for name in names:
        if name not in known and not any(step.startswith(f"{name}-") for step in known):
            raise unknown_name("step", name, known)
    return tuple(
        step for step in plan if not names or any(step.name == n or step.name.startswith(f"{n}-") for n in names)
    )


def _marked() -> list[str]:
    """The checkout's tests that have some marked cuda: the others may need packages that a GPU machine lacks."""
    files = sorted(Path("tests").rglob("test_*.py"))
    return [str(path) for path in files if _MARK in path.read_text(encoding="utf-8")] or ["tests"]


def _in(out: Path, name: str) -> str:
    return str(out / f"{name}.json")


def _check(out: Path, name: str, about: str, subject: tuple[str, ...], seconds: float, expected: ExitCode) -> Step:
    precisions = [argument for precision in PRECISIONS for argument in ("--precision", precision)]
    files = ("--json", _in(out, name), "--cases-dir", str(out / "cases"))
    limit = ("--max-time", f"{seconds - _CHECK_OVERHEAD:g}")
    command = (sys.executable, "-m", "harness", "check", *subject, *precisions, *limit, *files)
    return Step(name, f"{about}, under the cuda-* precisions", command, seconds, int(expected))
