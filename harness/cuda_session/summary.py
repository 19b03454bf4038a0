"""What a CUDA session came to: one JSON file, and one screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.cuda_session.running import StepResult, StepStatus
from harness.errors import ExitCode

SCHEMA = "harness-cuda-session/1"


def summary(machine: Mapping[str, Any], results: Sequence[StepResult]) -> dict[str, Any]:
    """The session as plain values; ``machine`` is what the doctor said."""
    return {
        "schema": SCHEMA,
        "exit_code": int(exit_code(results)),
        "seconds": round(sum(result.seconds for result in results), 1),
        "steps": [
            {
                "name": result.step.name,
                "about": result.step.about,
                "command": list(result.step.command),
                "status": result.status.value,
                "exit_status": result.exit_status,
                "expected": result.step.expected,
                "seconds": round(result.seconds, 1),
                "limit": result.step.seconds,
                "message": result.message,
            }
            for result in results
        ],
        "machine": dict(machine),
    }


def exit_code(results: Sequence[StepResult]) -> ExitCode:
    """Held where every step went as it should; violated where one ended otherwise; else not all was run."""
    statuses = {result.status for result in results}
    if StepStatus.OTHERWISE in statuses:
        return ExitCode.VIOLATED
    return ExitCode.HELD if statuses <= {StepStatus.AS_EXPECTED} else ExitCode.INCOMPLETE


def last_line(results: Sequence[StepResult], out: Path) -> str:
    """What it all came to, and where it lies."""
    right, seconds = sum(r.status is StepStatus.AS_EXPECTED for r in results), sum(r.seconds for r in results)
    verdict = exit_code(results).name
    return f"{verdict}: {right} of {len(results)} steps as expected in {seconds:.0f} s; all of it is under {out}"


def result_line(result: StepResult) -> str:
    """One step."""
    message = f"  {result.message}: see logs/{result.step.name}.log" if result.message else ""
    return f"  {result.step.name:<26} {result.status.value:<12} {result.seconds:6.1f} s{message}"


def machine_line(machine: Mapping[str, Any]) -> str:
    """GPU, driver and torch."""
    environment = machine["environment"]
    needed = {package["name"]: package["version"] for package in environment["needed"]}
    gpu = environment["gpu"]
    names = gpu["names"]["value"] or [gpu["names"]["why_not"]]
    driver = gpu["driver"]["value"] or gpu["driver"]["why_not"]
    return f"{', '.join(names)}, driver {driver}, torch {needed['torch']}, {environment['python']}"
