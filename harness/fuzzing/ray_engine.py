"""Shards on a Ray cluster. Ray says where each runs, and runs it again elsewhere where a worker or a node is lost; here
it is only said what a shard is: the next few units that have no record.
"""

from __future__ import annotations

import logging
import re
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from harness.config import Settings
from harness.errors import HarnessError, UsageError, describe_exception
from harness.files import one_line
from harness.fuzzing.campaign_folder import CampaignFolder
from harness.fuzzing.plan import Plan, difference, make_plan, plan_from_json
from harness.fuzzing.records import UnitRecord, hangs, record_from_json
from harness.fuzzing.shard_run import HUNG, MOST_HANGS, OUT_OF_TIME, Processes, ShardRun

# Units of a shard: few, since a lost node costs those in hand.
_UNITS_A_SHARD = 4
_CONNECT_SECONDS = 10.0
# Shards that wait for each processor, so that none is idle.
_SHARDS_A_PROCESSOR = 2

Answer = Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]


@dataclass(frozen=True)
class RayEngine:
    """Runs what has no record yet on a Ray cluster.

    Attributes:
        address: as ``ray.init`` takes it; ``None`` starts a cluster on this machine.
    """

    address: str | None = None

    def __call__(self, folder: CampaignFolder, settings: Settings, run: ShardRun) -> Iterable[UnitRecord]:
        """The records, as they come.

        Raises:
            UsageError: Ray isn't installed, or the cluster can't be had.
            HarnessError: a node has another subject, version or no subject at all.
        """
        try:
            import ray
        except ImportError as error:
            raise UsageError(
                '--engine ray needs the package ray: pip install "gslrm-harness[cluster]", on every node.'
            ) from error
        _look_for(self.address)
        began = not ray.is_initialized()
        try:
            if began:
                # Ray puts its own in place of the command's.
                ending = signal.getsignal(signal.SIGTERM)
                more: dict[str, Any] = {} if self.address is not None else {"include_dashboard": False}
                ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR, **more)
                if threading.current_thread() is threading.main_thread():
                    signal.signal(signal.SIGTERM, ending)
        except Exception as error:
            where = "" if self.address is None else f" at {self.address}"
            raise UsageError(f"no Ray cluster can be had{where}: {describe_exception(error)}.") from error
        try:
            yield from _records(ray, folder.plan, settings, run)
        finally:
            if began:
                ray.shutdown()


def _look_for(address: str | None) -> None:
    """Where the address names a machine, see that somebody answers there: Ray itself would try for minutes.

    Raises:
        UsageError: nobody does.
    """
    if address is None or (match := re.fullmatch(r"(?:ray://)?\[?([^/]+?)\]?:(\d{1,5})", address)) is None:
        return
    try:
        socket.create_connection((match[1], int(match[2])), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"no Ray cluster can be had at {one_line(address, 200)}: {describe_exception(error)}; is its head running "
            "there?"
        ) from error


def _records(ray: Any, plan: Plan, settings: Settings, run: ShardRun) -> Iterator[UnitRecord]:
    # System failures are tried again without end; what a shard raises is not.
    remote = ray.remote(num_cpus=1, max_retries=-1, scheduling_strategy="SPREAD")(run_shard)
    processors = max(1, int(ray.cluster_resources().get("CPU", 1)))
    told = plan.as_json()
    waiting = _shards(run)
    until = None if run.bounds.deadline is None else time.time() + run.bounds.deadline - time.monotonic()
    pending: deque[Any] = deque()
    hung = 0
    while True:
        while not run.stopped and len(pending) < processors * _SHARDS_A_PROCESSOR:
            if (numbers := next(waiting, None)) is None:
                break
            if run.bounds.over:
                run.stopped = OUT_OF_TIME
                break
            pending.append(remote.remote(replace(settings, workers=1), told, numbers, str(run.shard), until))
        if not pending:
            return
        ready, left = ray.wait(list(pending), num_returns=1)
        pending = deque(left)
        for content, files in _answer(ray, ready[0]):
            record = replace(record_from_json(content, plan.units[content["unit"]]), files=files)
            hung = hung + 1 if hangs(record.found) else 0
            if hung >= MOST_HANGS:
                run.stopped = HUNG
            yield record
        if run.bounds.over and not pending and next(waiting, None) is not None:
            run.stopped = OUT_OF_TIME


def _shards(run: ShardRun) -> Iterator[list[int]]:
    """The numbers of the units of each."""
    numbers: list[int] = []
    for number in run.left():
        numbers.append(number)
        if len(numbers) == _UNITS_A_SHARD:
            yield numbers
            numbers = []
    if numbers:
        yield numbers


def _answer(ray: Any, reference: Any) -> Answer:
    try:
        answer: Answer = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(cause := error.cause, HarnessError):
            raise cause from error
        raise
    return answer


def run_shard(
    settings: Settings, plan: Mapping[str, Any], numbers: Sequence[int], shard: str, until: float | None
) -> Answer:
    """Run these units on a node, in processes of their own: of each the record, and its case files.

    Args:
        until: on the wall clock, after which no unit is started.

    Raises:
        HarnessError: the node has another subject or version than the plan is of, or can't load the subject.
    """
    processes, own = _loaded(settings)
    asked = plan_from_json(plan, "the campaign's plan")
    if (why := difference(asked, own)) is not None:
        raise UsageError(f"a node of the Ray cluster has another campaign than this one, which is {why}.")
    found = []
    for number in numbers:
        if until is not None and time.time() > until:
            break
        record = processes.all[0].run(asked.units[number], shard)
        found.append((record.as_json(), record.files))
    return found


@lru_cache(maxsize=1)
def _loaded(settings: Settings) -> tuple[Processes, Plan]:
    """Kept from shard to shard of a Ray worker: loading costs seconds. They end with the worker."""
    processes = Processes(settings)
    return processes, make_plan(settings, processes.load())
