"""Whether a subject can be run here, and in which versions."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path

from harness.config import environment_with_path
from harness.conformance.table import Listed, State
from harness.files import one_line

_SECONDS = 120.0
_IMPORT = "import importlib, sys; importlib.import_module(sys.argv[1])"


def versions(listed: Listed) -> dict[str, str]:
    """Of those of its packages that are installed."""
    found = {}
    for package in listed.packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def absence(listed: Listed) -> tuple[State, str] | None:
    """Why it isn't run here, without importing it; ``None`` where nothing speaks against it."""
    there = versions(listed)
    missing = [package for package in listed.packages if package not in there]
    missing += [module for module in listed.needs if not _is_there(module)]
    if missing:
        return State.NOT_INSTALLED, f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
    if listed.cuda:
        import torch

        if not torch.cuda.is_available():
            return State.NO_CUDA, "it runs on a CUDA GPU alone, and torch sees none here"
    return None


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def import_failure(listed: Listed) -> str:
    """The last line of what importing its module says, in a process of its own; empty where it can be imported."""
    module, _, _ = listed.spec.spec.rpartition(":")
    if module.endswith(".py"):
        return ""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _IMPORT, module],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            env=environment_with_path(Path.cwd()),
        )
    except subprocess.TimeoutExpired:
        return f"importing {module} is still going on after {_SECONDS:g} s"
    if not done.returncode:
        return ""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return one_line(lines[-1] if lines else f"importing {module} ends the interpreter", 300)
