"""A project of one module, with a test that leaves one of its functions alone."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.mutation.targets import Target

MODULE = '''"""Sums."""

from __future__ import annotations


def larger(a: int | None, b: int) -> int:
    """The larger one."""
    return a if a > b else b


def untested(a: int) -> int:
    return a + 1


def counted_down(n: int) -> int:
    while n > 0:
        n = n - 1
    return n
'''
_TEST = """
from gslrm.sums import counted_down, larger

def test_larger():
    assert larger(1, 2) == 2 and larger(2, 1) == 2

def test_counted_down():
    assert counted_down(3) == 0
"""
FILE = "gslrm/sums.py"
TARGET = Target("sums", (FILE,), ({"by": "tests", "arguments": ["tests"]},), imported=("pytest",))


def tiny_project(root: Path) -> Path:
    """Write it under this folder."""
    files = {FILE: MODULE, "gslrm/__init__.py": "", "tests/test_sums.py": _TEST, "pyproject.toml": ""}
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    copied = root / "tests/mutation"
    copied.mkdir()
    for name in ("judge.py", "reached.py"):
        shutil.copy(Path(__file__).with_name(name), copied)
    (root / "tests/mutation/equivalent.toml").write_text("")
    return root
