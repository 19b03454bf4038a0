"""Packages for a machine without a network, from a folder of wheels: into a folder of their own, and only what is not
installed there.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

from harness.errors import UsageError

_SECONDS = 120.0


def missing_wheels(folder: Path) -> tuple[Path, ...]:
    """The folder's wheels of packages that this Python hasn't.

    Raises:
        UsageError: the folder holds no wheel.
    """
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        raise UsageError(f"--wheels {folder}: there is no wheel in that folder.")
    # Metadata may lack a name where an installation was left half done.
    names = (distribution.metadata["Name"] for distribution in importlib.metadata.distributions())
    installed = {_normal(name) for name in names if name}
    return tuple(wheel for wheel in wheels if _normal(wheel.name.split("-")[0]) not in installed)


def install(wheels: tuple[Path, ...], target: Path) -> None:
    """Unpack them there, without what they depend on; nothing else on the machine changes.

    Raises:
        UsageError: pip can't.
    """
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--disable-pip-version-check"]
    try:
        done = subprocess.run(
            [*command, "--upgrade", "--target", str(target), *map(str, wheels)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise UsageError(f"--wheels: pip had not installed {len(wheels)} wheels after {_SECONDS:g} s.") from None
    if done.returncode != 0:
        line = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        raise UsageError(f"--wheels: pip can't install them: {line}")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
