"""Ranks forked from a process that was forked ahead."""

from __future__ import annotations

import os
import signal
import sys
import time
from multiprocessing.connection import Connection

import pytest

from harness.cases.descriptors import PassKind, TrainingCase
from harness.errors import PrecisionError
from harness.subject_spec import SubjectSpec
from harness.subjects.training import load_training
from harness.trials.rank_pair import DiedError, RankPair
from harness.trials.rank_processes import ForkedAhead

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are forked on Linux alone")

_SPEC = SubjectSpec("gslrm.testing.tiny_training:TinyTraining")
_GOOD = TrainingCase(actions=(PassKind.GOOD,), second_rank=(PassKind.GOOD,))
_DIES = SubjectSpec("tests/harness/trials/dying_training.py:Dying")


def _serve(rank: int, pipe: Connection, store: str) -> None:
    while True:
        asked = pipe.recv()
        if asked == "leave":
            return
        pipe.send((rank, store, os.getpid(), os.getppid()))


def test_each_serves_its_pipe_and_ends_with_its_code() -> None:
    ahead = ForkedAhead(_serve)
    (first, one), (second, two) = (ahead.start(rank, "store") for rank in range(2))
    for rank, pipe in enumerate((one, two)):
        pipe.send("who")
        told_rank, store, process, parent = pipe.recv()
        assert (told_rank, store) == (rank, "store")
        assert parent not in (os.getpid(), process)
    assert first.exitcode is second.exitcode is None
    one.send("leave")
    first.join()
    assert first.exitcode == 0
    second.kill()
    second.join()
    assert second.exitcode == -signal.SIGKILL
    ahead.close()


def test_it_ends_with_the_process_that_forked_it() -> None:
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        ahead = ForkedAhead(_serve)
        _, pipe = ahead.start(0, "store")
        pipe.send("who")
        os.write(writing, f"{pipe.recv()[2]} {ahead._process}".encode())
        os._exit(0)
    os.waitpid(parent, 0)
    left = [int(process) for process in os.read(reading, 100).split()]
    assert len(left) == 2
    until = time.monotonic() + 10
    while any(_runs(process) for process in left):
        assert time.monotonic() < until
        time.sleep(0.01)


def _runs(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_pair_that_was_forked_ahead_sees_what_new_processes_see() -> None:
    new, ahead = RankPair(_SPEC), RankPair(_SPEC)
    ahead.fork_ahead(load_training(_SPEC))
    assert ahead.run("float32", _GOOD) == new.run("float32", _GOOD)
    new.close()
    ahead.close()


def test_how_one_of_them_ended_is_told() -> None:
    pair = RankPair(_DIES)
    pair.fork_ahead(load_training(_DIES))
    with pytest.raises(DiedError, match=r"rank [01] .*7"):
        pair.run("float32", _GOOD)
    pair.close()


def test_that_the_process_which_forks_them_is_gone_is_told() -> None:
    pair = RankPair(_SPEC)
    pair.fork_ahead(load_training(_SPEC))
    starter = pair._starter
    assert isinstance(starter, ForkedAhead)
    os.kill(starter._process, signal.SIGKILL)
    with pytest.raises(PrecisionError, match="could not be joined through gloo: "):
        pair.run("float32", _GOOD)
    pair.close()
