"""What a worker is at is known without its telling, also once it is gone."""

from __future__ import annotations

import os
import signal

import pytest

from harness.cases.descriptors import LossCase
from harness.engine.plan import Task
from harness.engine.pulse import Beat, Pulse
from harness.subject_spec import SubjectKind

TASK = Task(SubjectKind.LOSS, "range", "float32")
CASE, LARGER = LossCase(11, 12), LossCase(40, 12, seed=2**31)


def test_what_was_written_last_is_read() -> None:
    pulse = Pulse()
    assert pulse.read() == Beat()
    assert pulse.last_at() == 0.0
    for number, case in enumerate((LARGER, CASE), 1):
        pulse.begin(TASK, case, 10.0 + number)
        assert pulse.read() == Beat(number, 10.0 + number, TASK, case)
        assert pulse.last_at() == 10.0 + number
    pulse.rest(20.0)
    assert pulse.read() == Beat(2, 20.0)
    pulse.rest(21.0, anew=True)
    pulse.begin(TASK, CASE, 22.0)
    assert pulse.read() == Beat(1, 22.0, TASK, CASE)
    pulse.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_it_outlives_who_wrote_it() -> None:
    pulse = Pulse()
    process = os.fork()
    if not process:
        Pulse(pulse.descriptor).begin(TASK, LARGER, 5.0)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(process, 0)
    assert pulse.read() == Beat(1, 5.0, TASK, LARGER)
    pulse.close()


def test_what_a_subject_writes_into_it_is_no_case() -> None:
    pulse = Pulse()
    pulse.begin(TASK, CASE, 1.0)
    os.pwrite(pulse.descriptor, b"not what was written", 60)
    assert pulse.read() == Beat()
    pulse.close()
