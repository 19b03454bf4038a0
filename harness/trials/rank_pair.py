"""Two processes on this machine that run a training's fault programs together, through gloo."""

from __future__ import annotations

import hashlib
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError, PrecisionError, describe_exception, ending
from harness.subject_spec import SubjectSpec
from harness.trials.observation import RankState
from harness.trials.rank_processes import ForkedAhead, NewProcesses, RankProcess, Starter

if TYPE_CHECKING:
    from harness.cases.descriptors import PassKind, TrainingCase
    from harness.subjects.training import TrainingFactory
    from harness.trials.observation import Observation

# Of torch and the subject, on a machine that is busy.
START_SECONDS = 120.0
# A pass in the small takes milliseconds: who takes so long for one waits for the other.
PASS_SECONDS = 20.0
_END_SECONDS = 2.0
# For a process that takes part in a collective with one that raised: where it has ended, the pipe tells at once.
_MOMENT = 2.0
# Only for processes whose parent is gone: the parent is the one that tells a hang.
_COLLECTIVE = timedelta(minutes=2)


class LostError(Exception):
    """A process of the two was lost while they trained; says which and how."""


class HangError(LostError):
    """It had not finished a pass in time."""


class DiedError(LostError):
    """It ended."""


class RankPair:
    """The two processes, kept from program to program; they are started by the first and after a hang or a raise."""

    def __init__(self, subject: SubjectSpec, pass_seconds: float = PASS_SECONDS) -> None:
        self._starter: Starter = NewProcesses(partial(_load_and_serve, subject))
        self._pass_seconds = pass_seconds
        self._processes: list[RankProcess] = []
        self._pipes: list[Connection] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        weakref.finalize(self, _end, self._processes, self._pipes)

    def fork_ahead(self, factory: TrainingFactory, closing: Sequence[Connection] = ()) -> None:
        """Have the ranks forked from this process as it is now: it has loaded the subject, run nothing of it, and has
        one thread and nothing of a GPU.

        Args:
            closing: connections of this process that the others must not keep open.
        """
        self._starter = ForkedAhead(partial(_serve, lambda: factory), closing)

    def run(self, precision: str, case: TrainingCase) -> tuple[list[RankState], list[RankState]]:
        """What each process saw, pass by pass; a list ends where it raised.

        Raises:
            SubjectError: the subject doesn't fit.
            PrecisionError: the two can't be joined here, or the precision can't be had.
            LostError: for ``pass_seconds`` neither had finished another pass, or a process ended.
        """
        if not self._processes:
            self._start()
        for pipe, actions in zip(self._pipes, (case.actions, case.second_rank), strict=True):
            pipe.send((precision, case, actions))
        try:
            first, second = self._collected(self._pass_seconds)
        except BaseException:
            self._stop()
            raise
        if any(states and states[-1].raised for states in (first, second)):
            # What a collective left half done can't be trusted.
            self._stop()
        return first, second

    def close(self) -> None:
        """End the processes, at once, and start no more."""
        self._stop()
        self._starter.close()

    def _stop(self) -> None:
        _end(self._processes, self._pipes)
        if self._folder is not None:
            self._folder.cleanup()
        self._folder = None

    def _start(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        store = str(Path(self._folder.name) / "store")
        try:
            for rank in range(2):
                process, pipe = self._starter.start(rank, store)
                self._processes.append(process)
                self._pipes.append(pipe)
            self._collected(START_SECONDS)
        except (LostError, EOFError, OSError) as error:
            # The last two: the process that was to fork them is gone.
            self._stop()
            why = str(error) or "the process that was to start them has ended"
            raise PrecisionError(f"two processes could not be joined through gloo: {why}.") from error
        except BaseException:
            self._stop()
            raise

    def _collected(self, seconds: float) -> tuple[list[RankState], list[RankState]]:
        """What each process sends until it says that it is done; the other's is cut short where one raised."""
        states: tuple[list[RankState], list[RankState]] = ([], [])
        running = {pipe: rank for rank, pipe in enumerate(self._pipes)}
        while running:
            ready = wait(list(running), timeout=seconds)
            if not ready:
                late = " and ".join(f"rank {rank}" for rank in running.values())
                raise HangError(f"{late} had not finished a pass after {seconds:g} s")
            for pipe in ready:
                assert isinstance(pipe, Connection)
                state = self._received(pipe)
                if state is None:
                    del running[pipe]
                    continue
                states[running[pipe]].append(state)
                if state.raised is not None:
                    # The other may be waiting for it, or have ended: then that is why this one raised.
                    for other, rank in running.items():
                        if other is not pipe:
                            states[rank].extend(self._last_words(other))
                    return states
        return states

    def _last_words(self, pipe: Connection) -> Iterator[RankState]:
        """What a process still sends within a moment.

        Raises:
            DiedError: it has ended.
        """
        while wait([pipe], timeout=_MOMENT):
            state = self._received(pipe)
            if state is None:
                return
            yield state
            if state.raised is not None:
                return

    def _received(self, pipe: Connection) -> RankState | None:
        try:
            answer = pipe.recv()
        except (EOFError, ConnectionError):
            rank = self._pipes.index(pipe)
            self._processes[rank].join(timeout=_END_SECONDS)
            raise DiedError(f"rank {rank} {ending(self._processes[rank].exitcode)}") from None
        if isinstance(answer, HarnessError):
            raise answer
        assert answer is None or isinstance(answer, RankState)
        return answer


def _end(processes: list[RankProcess], pipes: list[Connection]) -> None:
    for process in processes:
        process.kill()
        process.join()
    for pipe in pipes:
        pipe.close()
    processes.clear()
    pipes.clear()


def _load_and_serve(subject: SubjectSpec, rank: int, pipe: Connection, store: str) -> None:
    from harness.precision import import_guard
    from harness.subjects.training import load_training

    def load() -> TrainingFactory:
        # As a session loads it: an autocast("cuda") made on import must not switch itself off.
        with import_guard():
            return load_training(subject)

    _serve(load, rank, pipe, store)


def _serve(load: Callable[[], TrainingFactory], rank: int, pipe: Connection, store: str) -> None:
    """A process' whole life: join, load the subject, and run programs until the pipe closes."""
    import torch
    import torch.distributed

    warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
    torch.set_num_threads(1)
    try:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=_COLLECTIVE
        )
        factory = load()
        pipe.send(None)
        while True:
            precision, case, actions = pipe.recv()
            for state in _run(factory, precision, case, actions):
                pipe.send(state)
            pipe.send(None)
    except HarnessError as error:
        pipe.send(error)
    except (EOFError, ConnectionError):
        pass


def _run(
    factory: TrainingFactory, precision: str, case: TrainingCase, actions: tuple[PassKind, ...]
) -> Iterator[RankState]:
    from harness.precision import precisions_named
    from harness.trials.training import TrainingTrial

    (chosen,) = precisions_named([precision])
    with chosen.installed():
        trial = TrainingTrial(factory, chosen, case)
        for action in actions:
            state = _state(trial.act(action))
            yield state
            if state.raised is not None:
                return


def _state(seen: Observation) -> RankState:
    digest = hashlib.sha256()
    for name, parameter in sorted(seen.after.parameters.items()):
        digest.update(name.encode())
        digest.update(parameter.cpu().contiguous().numpy().tobytes())
    raised = seen.raised
    return RankState(
        loss=seen.loss,
        stepped=None if seen.report is None else seen.report.stepped,
        passes=seen.after.passes,
        updates=seen.after.updates,
        learning_rate=seen.after.learning_rate,
        scale=seen.after.scaler.scale,
        parameters=digest.hexdigest(),
        raised=None if raised is None else describe_exception(raised),
    )
