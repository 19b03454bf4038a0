"""The workers of a run: started, waited for, heard and ended together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from multiprocessing.connection import wait

from harness.engine.events import Listener, SubjectPrinted
from harness.engine.forked import can_fork
from harness.engine.guardian import Guardian, kill_group
from harness.engine.messages import Heard, Start
from harness.engine.worker_process import WorkerProcess
from harness.errors import HarnessFailure, SubjectError

_TICK_SECONDS = 0.1


class Workers:
    """Those that run. All are killed at the end, with whatever their subjects started."""

    def __init__(self, start: Start, guardian: Guardian, emit: Listener, forks: bool = False) -> None:
        self._start, self._guardian, self._emit, self._forks = start, guardian, emit, forks
        self.running: list[WorkerProcess] = []

    def add(self) -> WorkerProcess:
        """Start one more."""
        worker = WorkerProcess(self._start, self._guardian, self.running if self._forks and can_fork() else None)
        self.running.append(worker)
        return worker

    def remove(self, worker: WorkerProcess) -> None:
        """End it, and tell what it printed last."""
        worker.end()
        self.hear(worker)
        worker.kill()
        self.running.remove(worker)

    def wait(self) -> None:
        """Until one says or prints something, for a moment at most; what they print is told at once."""
        printing = [worker.output.fileno() for worker in self.running if worker.output.open]
        wait([*(worker.connection for worker in self.running), *printing], _TICK_SECONDS)
        for worker in self.running:
            self.hear(worker)

    def hear(self, worker: WorkerProcess) -> None:
        """Tell what it has printed."""
        if text := worker.output.read():
            self._emit(SubjectPrinted(worker.process, text))


@contextlib.contextmanager
def running_workers(start: Start, count: int, emit: Listener, forks: bool = False) -> Iterator[Workers]:
    """So many, which may leave by themselves once the block is done, and are killed where it raises.

    Args:
        emit: told what their subjects print, and in the end what they still have to say.
        forks: they are forked from this process where that can be done. It must have run nothing but the harness.
    """
    guardian = Guardian()
    workers = Workers(start, guardian, emit, forks)
    try:
        for _ in range(count):
            workers.add()
        yield workers
        for worker in workers.running:
            worker.tell(None)
        for worker in workers.running:
            worker.wait_for_last_words()
            for message in worker.messages():
                if isinstance(message, Heard):
                    emit(message.event)
            workers.hear(worker)
    finally:
        for worker in workers.running:
            kill_group(worker.process)
        for worker in workers.running:
            worker.kill()
        guardian.close()


def not_loaded(worker: WorkerProcess, how: str) -> SubjectError:
    """What is to be said where its loading ended so.

    Raises:
        HarnessFailure: it hadn't come to that.
    """
    said = worker.output.last_lines()
    if worker.loading is None:
        raise HarnessFailure(f"a worker process was lost before it came to load the subject: it {how}\n{said}".strip())
    if said:
        how += f"; the last that it printed is {said.rpartition(chr(10))[2]!r}"
    if how.startswith("still"):
        return SubjectError(f"loading {worker.loading} is {how}; give it longer with --case-timeout.")
    return SubjectError(f"loading {worker.loading} {how}.")
