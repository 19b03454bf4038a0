"""A script run where there is no harness."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# The harness and its subject are refused, as where they are not installed.
BARE = """
import runpy, sys
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("harness", "gslrm", "tests"):
            raise ModuleNotFoundError(f"{name} is not installed here")
sys.meta_path.insert(0, Refusing())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_bare(script: Path, folder: Path) -> str:
    """What the script prints where there is no harness, told where the subject's folder is."""
    command = [sys.executable, "-I", "-W", "ignore", "-c", BARE, str(script), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=script.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout
