"""A session: the loaded subjects, checking task by task and emitting events."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.cases.descriptors import Case
from harness.cases.image_folder import ImageFolder
from harness.config import Settings
from harness.engine.confirmation import Ask, confirmed
from harness.engine.events import CaseFailed, CaseStarted, Confirming, Event, Listener, TaskFinished, TaskStarted
from harness.engine.loss_search import search_loss
from harness.engine.plan import SubjectKind, Task
from harness.engine.program_run import TrainingMemory
from harness.engine.ranks_search import search_ranks
from harness.engine.result import Call, Status, TaskResult
from harness.engine.step_search import search_step
from harness.errors import PrecisionError, UsageError
from harness.oracle.meanings import meaning_named
from harness.precision import Precision, import_guard, precisions_named
from harness.properties import LOSS_PROPERTIES, RANKS_AGREE, STEP_PROPERTIES
from harness.protocols import LossSubject
from harness.subjects.loss import load_loss
from harness.subjects.step import StepFactory, load_step
from harness.subjects.training import TrainingFactory
from harness.trials.rank_pair import RankPair

OUT_OF_TIME = "out of time"


class _Remembering:
    """Passes a task's events on, keeping every case that was begun and the last that failed."""

    def __init__(self, calls: list[Call], emit: Listener) -> None:
        self.failed: CaseFailed | None = None
        self._calls, self._emit = calls, emit

    def __call__(self, event: Event) -> None:
        if isinstance(event, CaseStarted):
            self._calls.append(Call(event.task, event.case))
        elif isinstance(event, CaseFailed):
            self.failed = event
        self._emit(event)


def subject_kinds(settings: Settings) -> tuple[SubjectKind, ...]:
    """Which subjects the settings name.

    Raises:
        UsageError: none, or a truth that there isn't.
    """
    meaning_named(settings.truth)
    kinds = [
        kind
        for kind, spec in ((SubjectKind.LOSS, settings.loss), (SubjectKind.STEP, settings.step))
        if spec is not None
    ]
    if not kinds:
        raise UsageError(
            "nothing to check: name a subject with --loss or --step, or in pyproject.toml under [tool.harness]."
        )
    return tuple(kinds)


@dataclass
class Session:
    """The loaded subjects and the user's pictures, ready to run tasks of one plan."""

    settings: Settings
    deadline: float | None = None
    loss: LossSubject | None = field(init=False, default=None)
    step: StepFactory | TrainingFactory | None = field(init=False, default=None)
    folder: ImageFolder | None = field(init=False, default=None)
    _memory: TrainingMemory = field(init=False, default_factory=TrainingMemory)
    _rank_pair: RankPair | None = field(init=False, default=None)
    _ask: Ask | None = field(init=False, default=None)
    _calls: list[Call] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.folder = ImageFolder(self.settings.images) if self.settings.images else None
        with import_guard():
            self._load(subject_kinds(self.settings))

    def confirm_with(self, ask: Ask) -> None:
        """Have each violation confirmed on a subject that nothing was done to."""
        self._ask = ask

    def close(self) -> None:
        """End the processes that were started for it."""
        if self._rank_pair is not None:
            self._rank_pair.close()

    def _load(self, kinds: Sequence[SubjectKind]) -> None:
        if SubjectKind.LOSS in kinds:
            assert self.settings.loss is not None
            self.loss = load_loss(
                self.settings.loss, self.settings.subject_root, self.settings.similarity, truth=self.settings.truth
            )
        if SubjectKind.STEP in kinds:
            assert self.settings.step is not None
            self.step = load_step(self.settings.step, self.settings.subject_root)

    def run(self, task: Task, emit: Listener, suspects: Sequence[Case] = ()) -> TaskResult:
        """Check one task.

        Args:
            suspects: tried first, say because they violated the property under another precision: if one does so
                here too, no other needs to be found and shrunk.
        """
        emit(TaskStarted(task))
        if self.deadline is not None and time.monotonic() > self.deadline:
            result = TaskResult(task, Status.NOT_RUN, message=OUT_OF_TIME)
        else:
            result = self._checked(task, _Remembering(self._calls, emit), suspects)
        if result.status is Status.VIOLATED:
            case = result.case
            assert case is not None
            if self._ask is not None and task.property != RANKS_AGREE.name:
                emit(Confirming(task))
                result = confirmed(result, self._before(task, case), self._ask)
            emit(CaseFailed(task, case, result.message, shrunk=True, earlier=result.earlier))
        emit(TaskFinished(task, result))
        return result

    def _before(self, task: Task, case: Case) -> list[Call]:
        """What the subject had been through when the case failed."""
        for index in range(len(self._calls) - 1, -1, -1):
            if self._calls[index] == Call(task, case):
                return self._calls[:index]
        return self._calls

    def _checked(self, task: Task, emit: _Remembering, suspects: Sequence[Case]) -> TaskResult:
        (precision,) = precisions_named([task.precision])
        try:
            with precision.installed():
                return self._search(task, precision, emit, suspects)
        except PrecisionError as error:
            if emit.failed is not None:
                # Found before the search met what can't be run here.
                return TaskResult(task, Status.VIOLATED, message=emit.failed.message, case=emit.failed.case)
            return TaskResult(task, Status.NOT_RUN, message=str(error))

    def _search(self, task: Task, precision: Precision, emit: Listener, suspects: Sequence[Case]) -> TaskResult:
        if task.kind is SubjectKind.LOSS:
            assert self.loss is not None
            loss_property = next(p for p in LOSS_PROPERTIES if p.name == task.property)
            if reason := loss_property.inapplicable(self.loss.kind, meaning_named(self.loss.name.truth)):
                return TaskResult(task, Status.NOT_APPLICABLE, message=reason)
            return search_loss(
                task,
                self.loss,
                loss_property,
                precision,
                examples=self.settings.max_examples * loss_property.effort,
                seed_=self.settings.seed,
                folder=self.folder,
                suspects=suspects,
                emit=emit,
                deadline=self.deadline,
            )
        assert self.step is not None
        if task.property == RANKS_AGREE.name:
            return self._search_ranks(task, emit)
        step_property = next(p for p in STEP_PROPERTIES if p.name == task.property)
        if reason := step_property.inapplicable(self.step):
            return TaskResult(task, Status.NOT_APPLICABLE, message=reason)
        return search_step(
            task,
            self.step,
            step_property,
            precision,
            examples=self.settings.max_examples,
            seed_=self.settings.seed,
            suspects=suspects,
            emit=emit,
            deadline=self.deadline,
            memory=self._memory,
        )

    def _search_ranks(self, task: Task, emit: Listener) -> TaskResult:
        assert self.step is not None
        if reason := RANKS_AGREE.inapplicable(self.step):
            return TaskResult(task, Status.NOT_APPLICABLE, message=reason)
        return search_ranks(
            task,
            self.rank_pair,
            RANKS_AGREE,
            examples=self.settings.max_examples,
            seed_=self.settings.seed,
            emit=emit,
            deadline=self.deadline,
        )

    @property
    def rank_pair(self) -> RankPair:
        """The two processes that train together, started when first needed; they end with this one."""
        assert self.settings.step is not None
        if self._rank_pair is None:
            self._rank_pair = RankPair(self.settings.step, self.settings.subject_root)
        return self._rank_pair
