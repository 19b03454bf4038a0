"""A command's process ends as any does, only sooner."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import atexit, sys, threading, time
{imports}
from harness.cli.leaving import leave
atexit.register(lambda: print("at exit"))
class Told:
    def __del__(self):
        print("torn down")
told = Told()
{more}
print("said", end=" ")
leave({code})
"""


def _ended(code: int, imports: str = "import torch", more: str = "") -> tuple[int, str]:
    program = _PROGRAM.format(code=code, imports=imports, more=more)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert not done.stderr
    return done.returncode, done.stdout


@pytest.mark.parametrize("code", [0, 3])
def test_what_was_registered_is_done_and_nothing_is_torn_down(code: int) -> None:
    assert _ended(code) == (code, "said at exit\n")


def test_without_torch_it_is_an_exit_like_any_other() -> None:
    code, said = _ended(5, imports="")
    assert (code, said.splitlines()[0]) == (5, "said at exit")
    assert "torn down" in said


def test_a_thread_is_waited_for() -> None:
    slow = "threading.Thread(target=lambda: (time.sleep(0.5), print('thread done'))).start()"
    code, said = _ended(4, more=slow)
    assert code == 4
    assert "thread done" in said
