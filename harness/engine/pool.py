"""Run a plan in several processes: each takes a property at a time, with all its precisions; of a whole training, whose
properties share their runs, a precision with all its properties.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

from harness.config import Settings
from harness.engine.events import CaseStarted, Event, Listener, RunFinished, RunStarted
from harness.engine.plan import SubjectKind, Task
from harness.engine.result import TaskResult
from harness.errors import SubjectError

if TYPE_CHECKING:
    from harness.engine.run import Session

_worker: dict[str, Any] = {}


def run_pooled(
    settings: Settings,
    tasks: Sequence[Task],
    emit: Listener,
    worker_listener: Callable[[Event], None],
) -> tuple[TaskResult, ...]:
    """Run all tasks and give their results in the plan's order, which workers they fell to making no difference.

    Args:
        emit: told of every event but ``CaseStarted``, in this process.
        worker_listener: told of every event, in the worker, before ``emit``; must be picklable.

    Raises:
        HarnessError: what a worker raised, or that one died.
    """
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    deadline = None if settings.max_time is None else time.monotonic() + settings.max_time
    workers = min(settings.workers or os.cpu_count() or 1, len(tasks))
    emit(RunStarted(tuple(tasks)))
    pump = threading.Thread(target=_pump, args=(queue, emit), daemon=True)
    pump.start()
    try:
        with ProcessPoolExecutor(workers, context, _start_worker, (settings, deadline, queue, worker_listener)) as pool:
            try:
                steps = any(task.kind is SubjectKind.STEP for task in tasks)
                training = steps and pool.submit(_step_is_a_training).result()
                futures = [pool.submit(_run_group, group) for group in _groups(tasks, training)]
                wait(futures, return_when=FIRST_EXCEPTION)
                results = {result.task: result for future in futures for result in future.result()}
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    except BrokenProcessPool as error:
        raise SubjectError(
            f"a worker process died; the case that it was running is {settings.cases_dir}/in-flight.*.json: "
            f"replay it to see."
        ) from error
    finally:
        queue.put(None)
        pump.join()
    ordered = tuple(results[task] for task in tasks)
    emit(RunFinished(ordered))
    return ordered


def _pump(queue: Any, emit: Listener) -> None:
    while (event := queue.get()) is not None:
        emit(event)


def _start_worker(settings: Settings, deadline: float | None, queue: Any, listener: Listener) -> None:
    import torch

    # A step that is being convicted of it needs no warning for it, at every example.
    warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
    # The workers share the processors; tiny tensors gain nothing from threads.
    torch.set_num_threads(1)
    _worker.update(settings=settings, deadline=deadline, queue=queue, listener=listener, session=None)


def _groups(tasks: Sequence[Task], training: bool) -> list[tuple[Task, ...]]:
    """What one process runs in a row; the longest first."""

    from harness.properties import RANKS_AGREE

    def shared(task: Task) -> bool:
        return training and task.kind is SubjectKind.STEP and task.property != RANKS_AGREE.name

    def key(task: Task) -> tuple[str, str]:
        return task.kind.value, task.precision if shared(task) else task.property

    groups: dict[tuple[str, str], list[Task]] = {}
    for task in sorted(tasks, key=lambda task: not shared(task)):
        groups.setdefault(key(task), []).append(task)
    return [tuple(group) for group in groups.values()]


def _session() -> Session:
    from harness.engine.run import Session

    if _worker["session"] is None:
        _worker["session"] = Session(_worker["settings"], _worker["deadline"])
    session: Session = _worker["session"]
    return session


def _step_is_a_training() -> bool:
    from harness.subjects.training import TrainingFactory

    return isinstance(_session().step, TrainingFactory)


def _run_group(tasks: tuple[Task, ...]) -> tuple[TaskResult, ...]:
    def emit(event: Event) -> None:
        _worker["listener"](event)
        if not isinstance(event, CaseStarted):
            _worker["queue"].put(event)

    return tuple(_session().run(task, emit) for task in tasks)
