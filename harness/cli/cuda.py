"""``harness cuda --out DIR``: all that needs a GPU, on a machine that need not have a network.

Run it in the checkout (its tests and goldens are used). It needs torch (a CUDA build), numpy, hypothesis,
scikit-image and pillow, pytest for the tests, and these, which such a machine may lack. Collect them beforehand, where
there is a network, for the Python of the machine (3.12 here), and hand them over with ``--wheels``::

    python -m pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux2014_x86_64 \\
        -c constraints.txt -d wheels pytorch-msssim jaxtyping wadler-lindig safetensors PyYAML rich markdown-it-py \\
        mdurl Pygments sortedcontainers pytest-timeout

They are installed into ``DIR/packages`` for the session alone. gsplat, lpips and torchvision are used where they are
there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config import environment_with_path, load_settings
from harness.errors import ExitCode, PrecisionError, UsageError

if TYPE_CHECKING:
    from harness.cuda_session.running import StepResult

_DOCTOR_SECONDS = 120.0


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "cuda",
        help="run all that needs a GPU, and write everything under one folder",
        description="On a machine with a CUDA GPU, in the checkout: the tests marked cuda, the emulation against the "
        "GPU op by op, the goldens of CUDA (in a copy), and the checks of the default and the known-bad subjects under "
        "the cuda-* precisions; each in a process with a time limit and a log. Exit 0 where every step went as it "
        "should, 1 where one didn't, 5 where one was not run or ended, 6 without a GPU.",
        epilog="Without a network: python -m pip download --no-deps --only-binary=:all: --python-version 3.12 "
        "--platform manylinux2014_x86_64 -c constraints.txt -d wheels pytorch-msssim jaxtyping wadler-lindig "
        "safetensors PyYAML rich markdown-it-py mdurl Pygments sortedcontainers pytest-timeout; then --wheels wheels.",
    )
    parser.add_argument("--out", metavar="DIR", required=True, help="where everything is written")
    parser.add_argument("--only", action="append", default=[], metavar="STEP", help="only this step (repeatable)")
    parser.add_argument("--dry-run", action="store_true", help="show the steps and run nothing")
    parser.add_argument("--max-time", type=float, metavar="SECONDS", help="for all steps together (570)")
    parser.add_argument(
        "--wheels", metavar="DIR", help="install what is missing from these, into DIR/packages of --out"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the steps, and tell each as it ends."""
    from harness.cuda_session.plan import TOTAL_SECONDS, chosen, steps
    from harness.cuda_session.running import run_steps
    from harness.cuda_session.summary import exit_code, last_line, machine_line, result_line, summary
    from harness.cuda_session.wheels import install, missing_wheels
    from harness.files import write_atomically

    out = Path(options.out).absolute()
    seconds = TOTAL_SECONDS if options.max_time is None else options.max_time
    if not 0 < seconds < float("inf"):
        raise UsageError(f"--max-time is {options.max_time}, but must be a number of seconds above 0.")
    plan = chosen(steps(out, Path(load_settings({}).golden_dir).absolute()), options.only)
    if options.dry_run:
        for step in plan:
            print(f"{step.name}: {step.about} (at most {step.seconds:g} s, exit {step.expected} expected)")
            print(f"  {step.shown()}")
        return ExitCode.HELD
    wheels = missing_wheels(Path(options.wheels)) if options.wheels else ()
    machine = _doctor()
    _needs_gpu(machine)
    out.mkdir(parents=True, exist_ok=True)
    environment = None
    if options.wheels:
        packages = out / "packages"
        if wheels:
            install(tuple(wheel.absolute() for wheel in wheels), packages)
        environment = environment_with_path(packages)
    print(machine_line(machine), flush=True)

    def tell(results: Sequence[StepResult]) -> None:
        # Written after each step: whatever ends the session leaves what there was.
        write_atomically(out / "summary.json", json.dumps(summary(machine, results), indent=1) + "\n")
        print(result_line(results[-1]), flush=True)

    results = run_steps(plan, out / "logs", seconds, environment, tell)
    print(last_line(results, out))
    return exit_code(results)


def _doctor() -> Mapping[str, Any]:
    """What the doctor says, in a process of its own: torch or its driver may hang or crash.

    Raises:
        PrecisionError: it says nothing.
    """
    command = [sys.executable, "-m", "harness", "doctor", "--json"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_DOCTOR_SECONDS)
        found: Mapping[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise PrecisionError(f"harness doctor had not looked at the machine after {_DOCTOR_SECONDS:g} s.") from None
    except ValueError:
        raise PrecisionError(f"harness doctor ended with {done.returncode} and without an answer.") from None
    return found


def _needs_gpu(machine: Mapping[str, Any]) -> None:
    gpu = machine["environment"]["gpu"]["names"]
    if not gpu["value"]:
        raise PrecisionError(f"there is no GPU to run on: {gpu['why_not'] or 'torch sees none'}.")
