"""A worker's life: load the subjects, carry out orders from the pool, and leave without a subject's last words.

A worker leads a process group of its own, so that whatever the subject starts can be ended with it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
import traceback
import warnings
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from harness.engine.events import CaseStarted, Confirming, Event, TaskFinished
from harness.engine.messages import Answer, Broken, Check, Heard, Loading, Message, Order, Ready, Refused, Start
from harness.engine.pulse import Pulse
from harness.engine.subject_warnings import SubjectWarnings
from harness.errors import HarnessError, SubjectError, describe_exception

if TYPE_CHECKING:
    from harness.engine.events import Listener
    from harness.engine.result import TaskResult
    from harness.engine.run import TaskRunner
    from harness.properties.verdict import Verdict


def main(descriptor: int, pulse: int) -> NoReturn:
    """Serve the pool at the other end of this pipe until it says ``None`` or is gone.

    Args:
        descriptor, pulse: of the pipe, and of the file of a :class:`harness.engine.pulse.Pulse`.
    """
    # Ctrl-C is the pool's affair; a KeyboardInterrupt in here is the subject's own.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for inherited in (descriptor, pulse):
        os.set_inheritable(inherited, False)
    connection = Connection(descriptor)
    try:
        _serve(connection, connection.recv(), Pulse(pulse))
    except (EOFError, OSError):
        pass
    except HarnessError as error:
        _send(connection, Refused(error))
    except BaseException:
        _send(connection, Broken(traceback.format_exc()))
    _leave()


def _serve(connection: Connection, start: Start, pulse: Pulse) -> None:
    warned = SubjectWarnings()
    runner = _loaded(connection, start, warned)
    if start.confirms:
        _fork_ahead(runner, connection, start)
    # Not before the fork, which is to have one thread.
    threading.Thread(target=_end_with_the_pool, args=(connection,), daemon=True).start()

    for loaded in runner.session.loaded():
        _send(connection, Heard(loaded))
    _send(connection, Ready(runner.session.kind_names()))
    emit = partial(_pass_on, connection, start, warned, pulse)
    while (order := connection.recv()) is not None:
        _rest(pulse, anew=True)
        answer = _carried_out(runner, order, emit)
        _rest(pulse)
        _send(connection, Answer(answer))
    runner.session.close()
    _tell_warnings(connection, warned)


def _carried_out(runner: TaskRunner, order: Order, emit: Listener) -> TaskResult | Verdict:
    if isinstance(order, Check):
        return runner.run(order.task, emit, order.elsewhere, order.known)
    from harness.engine.judge import judge_calls

    emit(CaseStarted(order.calls[-1].task, order.calls[-1].case))
    return judge_calls(runner.session, order.calls)


def _loaded(connection: Connection, start: Start, warned: SubjectWarnings) -> TaskRunner:
    import torch

    from harness.engine.run import TaskRunner
    from harness.engine.search import keep_hypothesis_in

    keep_hypothesis_in(Path(start.settings.cases_dir))
    warned.install()
    # A step that is being convicted of it needs no warning for it, at every example.
    warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
    # The workers share the processors; tiny tensors gain nothing from threads.
    torch.set_num_threads(1)
    specs = " and ".join(spec for spec in (start.settings.loss, start.settings.step) if spec is not None)
    _send(connection, Loading(specs, time.monotonic()))
    try:
        return TaskRunner(start.settings, start.deadline, start.shows)
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        raise SubjectError(f"loading {specs} raised {describe_exception(error)}.") from error


def _fork_ahead(runner: TaskRunner, connection: Connection, start: Start) -> None:
    import torch

    from harness.engine.judge import evidence_of, judge_calls
    from harness.engine.pristine import fork_pristine
    from harness.imports import import_dynamo

    # What a fork inherits of CUDA, or of a thread, it can't use.
    if torch.cuda.is_initialized() or threading.active_count() > 1 or not hasattr(os, "fork"):
        return
    session = runner.session
    session.fork_ahead(closing=(connection,))

    prepare = import_dynamo if start.shows or start.settings.step is not None else lambda: None
    judge, show_evidence = partial(judge_calls, session), partial(evidence_of, session)
    pristine = fork_pristine(judge, show_evidence, closing=(connection,), prepare=prepare)
    if pristine is not None:
        runner.confirm_with(pristine)


def _pass_on(connection: Connection, start: Start, warned: SubjectWarnings, pulse: Pulse, event: Event) -> None:
    start.listener(event)
    if warned.has_new or not isinstance(event, CaseStarted):
        _tell_warnings(connection, warned)
    if isinstance(event, CaseStarted):
        try:
            pulse.begin(event.task, event.case, time.monotonic())
        except OSError:
            _leave()
    else:
        if isinstance(event, (Confirming, TaskFinished)):
            _rest(pulse)
        _send(connection, Heard(event))


def _rest(pulse: Pulse, anew: bool = False) -> None:
    # The subject closed the file: whatever comes next can't be told, and the pool hears that the process has left.
    try:
        pulse.rest(time.monotonic(), anew)
    except OSError:
        _leave()


def _tell_warnings(connection: Connection, warned: SubjectWarnings) -> None:
    if (told := warned.taken()) is not None:
        _send(connection, Heard(told))


def _send(connection: Connection, message: Message) -> None:
    # The pool is gone: there is nothing to work for.
    try:
        connection.send(message)
    except OSError:
        _leave()


def _end_with_the_pool(connection: Connection) -> None:
    """Wait until the pipe's other end closes, and then end the whole group at once, whatever runs in it."""
    poll = select.poll()
    poll.register(connection.fileno(), 0)
    while not any(event & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, event in poll.poll()):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _leave() -> NoReturn:
    """End without waiting for the subject's threads and without its atexit functions."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(0)
