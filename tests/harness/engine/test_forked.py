"""A forked worker finds what a new interpreter would."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import pytest

from harness.engine.forked import ForkedProcess, can_fork, fork

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are forked on Linux alone")


def _tell() -> NoReturn:
    told = sys.argv, sys.modules["__main__"].__dict__.get("__file__"), sys.stdin.read(), random.random()
    print(os.getsid(0) == os.getpid(), signal.getsignal(signal.SIGINT) == signal.SIG_DFL, *told, sep="|")
    # Without a word more: nothing is left in a buffer.
    os._exit(7)


def _output_of(main: Callable[[], NoReturn]) -> tuple[str, ForkedProcess]:
    reading, writing = os.pipe()
    process = fork(main, writing, lambda: os.close(reading))
    os.close(writing)
    with open(reading) as said:
        return said.read(), process


def test_it_finds_what_a_new_interpreter_would() -> None:
    random.seed(0)
    known = random.random()
    random.seed(0)
    said, process = _output_of(_tell)
    leads, default, argv, file, stdin, number = said.strip().split("|")
    assert (leads, default, argv, file, stdin) == ("True", "True", "['-c']", "None", "")
    assert float(number) != known
    assert process.wait(5.0) == 7


def test_what_is_raised_unwinds_nothing_of_the_parents() -> None:
    unwound = []

    @contextmanager
    def noting() -> Iterator[None]:
        try:
            yield
        finally:
            unwound.append(os.getpid())
            os.write(1, b"unwound")

    def broken() -> NoReturn:
        raise KeyboardInterrupt

    with noting():
        said, process = _output_of(broken)
        assert process.wait(5.0) == 1
    assert "unwound" not in said
    assert unwound == [os.getpid()]


def test_it_is_waited_for_and_killed() -> None:
    def sleep() -> NoReturn:
        time.sleep(60)
        os._exit(0)

    reading, writing = os.pipe()
    process = fork(sleep, writing, lambda: None)
    os.close(writing)
    os.close(reading)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    assert process.poll() is None
    process.kill()
    assert process.wait(5.0) == -signal.SIGKILL


def test_with_a_second_thread_none_is_forked() -> None:
    before, go_on = can_fork(), threading.Event()
    thread = threading.Thread(target=go_on.wait)
    thread.start()
    beside = can_fork()
    go_on.set()
    thread.join()
    assert before >= beside is False
