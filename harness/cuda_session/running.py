"""Run steps one after the other, each in a process group of its own that ends with it, whatever it does."""

from __future__ import annotations

import contextlib
import enum
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.cuda_session.plan import Step
from harness.errors import describe_exception

# Between asking a step to end and ending it.
_GRACE_SECONDS = 5.0


class StepStatus(str, enum.Enum):
    """What became of a step."""

    AS_EXPECTED = "as expected"
    OTHERWISE = "otherwise"  # it ended with another exit status
    TIMED_OUT = "timed out"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class StepResult:
    """A step and what became of it.

    Attributes:
        exit_status: of its process; negative where a signal ended it, ``None`` where it didn't end by itself.
        message: what is to be said besides, or empty.
    """

    step: Step
    status: StepStatus
    exit_status: int | None
    seconds: float
    message: str = ""


def run_steps(
    steps: Sequence[Step],
    logs: Path,
    total_seconds: float,
    environment: Mapping[str, str] | None,
    tell: Callable[[Sequence[StepResult]], None],
) -> tuple[StepResult, ...]:
    """Run all steps; what one does is no matter to the next.

    Args:
        logs: folder for what each prints.
        total_seconds: no step is started later, and none runs on.
        environment: of the processes; ``None`` for this one's.
        tell: told all results so far after each step.
    """
    logs.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + total_seconds
    results: list[StepResult] = []
    for step in steps:
        left = end - time.monotonic()
        if left <= 0:
            message = f"the whole took {total_seconds:g} s: run it alone with --only {step.name}"
            results.append(StepResult(step, StepStatus.NOT_RUN, None, 0.0, message))
        else:
            results.append(_run(step, logs / f"{step.name}.log", min(step.seconds, left), environment))
        tell(results)
    return tuple(results)


def _run(step: Step, log: Path, limit: float, environment: Mapping[str, str] | None) -> StepResult:
    started = time.monotonic()
    try:
        with log.open("w", encoding="utf-8") as file:
            file.write(f"$ {step.shown()}\n")
            file.flush()
            status = _status(step, file.fileno(), limit, environment)
    except OSError as error:
        taken = time.monotonic() - started
        return StepResult(step, StepStatus.OTHERWISE, None, taken, f"could not be run: {describe_exception(error)}")
    taken = time.monotonic() - started
    if status is None:
        return StepResult(step, StepStatus.TIMED_OUT, None, taken, f"still running after {limit:.0f} s")
    if status == step.expected:
        return StepResult(step, StepStatus.AS_EXPECTED, status, taken)
    return StepResult(step, StepStatus.OTHERWISE, status, taken, f"{_ended(status)}, expected was {step.expected}")


def _status(step: Step, output: int, limit: float, environment: Mapping[str, str] | None) -> int | None:
    """The exit status, or ``None`` where it had to be ended."""
    process = subprocess.Popen(
        step.command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )
    try:
        return process.wait(timeout=limit)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_GRACE_SECONDS)
        return None
    finally:
        # Whatever it started ends with it, also where this process is interrupted.
        if sys.platform != "win32":
            _signal(process, signal.SIGKILL)
        process.kill()
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send the signal to the process and all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.terminate()
        else:
            # It leads a group of its own, which has its id as long as any of it runs.
            os.killpg(process.pid, number)


def _ended(status: int) -> str:
    return f"ended by signal {-status}" if status < 0 else f"exit status {status}"
