"""Search for a case on which a loss violates a property."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from hypothesis import Phase, given, seed, target
from hypothesis.strategies import SearchStrategy

from harness.cases.descriptors import Case, LossCase
from harness.cases.image_folder import ImageFolder
from harness.cases.strategies import loss_cases
from harness.engine.events import Listener
from harness.engine.plan import Task
from harness.engine.result import TaskResult
from harness.engine.search import Search, climbing_score, hypothesis_settings, run_quietly
from harness.errors import describe_exception, reraise_unless_subjects
from harness.oracle.meanings import meaning_named
from harness.precision import Precision
from harness.properties.loss import LossProperty
from harness.properties.verdict import Verdict
from harness.protocols import LossSubject
from harness.trials.loss_trial import LossTrial
from harness.trials.process_state import kept_state

# What a person can take in at a glance, and how many such cases are tried where shrinking didn't get there.
_SMALL_SIDE = 16
_SMALL_CASES = 400
_NEARBY_SEEDS = 40


def check_loss_case(
    subject: LossSubject,
    property_: LossProperty,
    precision: Precision,
    case: LossCase,
    folder: ImageFolder | None,
) -> Verdict:
    """One property on one case. What the subject raises on good input violates any property."""
    trial = LossTrial(subject, precision, case, folder)
    try:
        with kept_state():
            return property_.check(trial)
    except BaseException as error:
        reraise_unless_subjects(error)
        return Verdict(False, float("nan"), float("inf"), f"raises {describe_exception(error)}")


def search_loss(
    task: Task,
    subject: LossSubject,
    property_: LossProperty,
    precision: Precision,
    *,
    examples: int,
    seed_: int,
    folder: ImageFolder | None,
    suspects: Sequence[Case],
    emit: Listener,
    deadline: float | None,
) -> TaskResult:
    """Run the suspects, then drawn cases; then climb towards the bound where that is worth while; shrink what fails.

    The drawn cases depend on the seed and the task alone.  The climb goes where the measurements lead, so on another
    processor it may run other cases.
    """
    search = Search(task, emit, deadline)
    meaning = meaning_named(subject.name.truth)
    cases = property_.cases(meaning)
    small_side = max(_SMALL_SIDE, meaning.smallest_side)

    def run(case: LossCase, climbing: bool = False) -> None:
        search.fail_again(case)
        if not search.may_run():
            return
        search.starting(case)
        verdict = check_loss_case(subject, property_, precision, case, folder)
        if climbing and not search.has_failed:
            target(climbing_score(verdict))
        search.ran(case, verdict)

    for suspect in suspects:
        assert isinstance(suspect, LossCase)
        run_quietly(lambda suspect=suspect: run(suspect))  # type: ignore[misc]
        if search.has_failed:
            return search.result()

    def strategy(**narrower: int) -> SearchStrategy[LossCase]:
        return loss_cases(
            **{**cases, **narrower},
            image_names=folder.names if folder else (),
        )

    @seed(task.seed(seed_))
    @hypothesis_settings(examples, (Phase.generate, Phase.shrink))
    @given(strategy())
    def draw(case: LossCase) -> None:
        run(case)

    @seed(task.seed(seed_, "climb"))
    @hypothesis_settings(max(1, examples // 2), (Phase.generate, Phase.target, Phase.shrink))
    @given(strategy())
    def climb(case: LossCase) -> None:
        run(case, climbing=True)

    @seed(task.seed(seed_, "small"))
    @hypothesis_settings(_SMALL_CASES, (Phase.generate, Phase.shrink))
    @given(strategy(largest_side=small_side, most_images=1))
    def draw_small(case: LossCase) -> None:
        run(case)

    run_quietly(draw)
    if property_.searched and search.may_run() and not search.has_failed:
        run_quietly(climb)
    if search.has_failed and not _is_small(search.smallest, property_, small_side):
        # Where rounding decides, no path of failing cases need lead from a large one to a small one.
        _look_nearby(search, run, property_, cases["smallest_side"])
    if search.has_failed and not _is_small(search.smallest, property_, small_side):
        large = search.smallest
        search.allow_shrinking(_SMALL_CASES)
        run_quietly(draw_small)
        if not _is_small(search.smallest, property_, small_side) and large is not None:
            search.restore_smallest(large)
    return search.result()


def _look_nearby(search: Search, run: Callable[[LossCase], None], property_: LossProperty, smallest_side: int) -> None:
    """Try the batch's images one by one, then cases like it but of a few small sizes and other seeds."""
    large = search.smallest
    assert isinstance(large, LossCase)
    images = property_.fewest_images
    alone = replace(large, batch=images, views=1)
    candidates = [replace(alone, seed=large.seed + index) for index in range(large.images)]
    candidates += [
        replace(alone, seed=seed, height=height, width=width)
        for height, width in ((11, 11), (11, 14), (14, 11), (13, 13), (16, 16))
        if min(height, width) >= smallest_side
        for seed in range(_NEARBY_SEEDS)
    ]
    search.allow_shrinking(len(candidates))
    for candidate in candidates:
        run_quietly(lambda case=candidate: run(case))  # type: ignore[misc]
        if search.smallest == candidate and _is_small(candidate, property_, _SMALL_SIDE):
            return
    search.restore_smallest(large)


def _is_small(case: Case | None, property_: LossProperty, side: int) -> bool:
    return (
        isinstance(case, LossCase) and max(case.height, case.width) <= side and case.images <= property_.fewest_images
    )
