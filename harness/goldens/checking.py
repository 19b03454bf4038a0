"""Check a folder of goldens against what is recorded in it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from harness.engine.events import unheard
from harness.errors import PrecisionError, describe_exception, reraise_unless_subjects
from harness.goldens.deviation import RECORDED, TRUTH, Deviation, Place, deviations
from harness.goldens.events import GoldenChecked, GoldensFinished, GoldensStarted, GoldenStarted, Listener
from harness.goldens.folder import GoldenFolder, is_of_the_same_case, precisions_of, truth_tolerances
from harness.goldens.golden_file import GoldenFile
from harness.goldens.outcome import Outcome, Status
from harness.goldens.probes import Probe
from harness.goldens.suite import GoldenSpec
from harness.goldens.terms import Tolerance
from harness.goldens.torch_limits import why_torch_can_not
from harness.precision import Precision, unavailable_reason

# The truth must come out alike wherever it is computed: float64 rounding, kept as float32 arrays.
_SAME_TRUTH = Tolerance(relative=1e-6, absolute=1e-12)


def check(
    goldens: GoldenFolder,
    only: str | None = None,
    emit: Listener = unheard,
    environment: Mapping[str, Any] | None = None,
) -> tuple[Outcome, ...]:
    """Every golden (of the pattern) under every precision; then those that nothing uses.

    Args:
        emit: told of each as it is done.
        environment: what the first event says of it.

    Raises:
        UsageError: the pattern fits none.
        HarnessError: as :func:`check_one`.
    """
    began, outcomes, chosen = time.monotonic(), [], goldens.selected(only)
    emit(GoldensStarted(sum(len(spec.precisions) for spec in chosen), environment or {}))
    for spec in chosen:
        emit(GoldenStarted(spec.name))
        for outcome in check_one(goldens, spec):
            outcomes.append(outcome)
            emit(GoldenChecked(outcome))
    for outcome in _unused(goldens) if only is None else ():
        outcomes.append(outcome)
        emit(GoldenChecked(outcome))
    emit(GoldensFinished(time.monotonic() - began))
    return tuple(outcomes)


def check_one(goldens: GoldenFolder, spec: GoldenSpec, precisions: tuple[str, ...] | None = None) -> Iterator[Outcome]:
    """One golden under its precisions, or those of them that are named, as each is done.

    Raises:
        HarnessError: its files are damaged, or its subject can't be loaded.
    """
    golden = goldens.store.read(spec.name)
    probe: Probe | None = None
    for precision in precisions_of(spec):
        if precisions is not None and precision.name not in precisions:
            continue
        outcome = _unmeasured(spec, golden, precision)
        if outcome is None:
            assert golden is not None
            probe = probe or goldens.load(spec)
            outcome = _judged(spec, golden, precision, probe)
        yield outcome


def _unmeasured(spec: GoldenSpec, golden: GoldenFile | None, precision: Precision) -> Outcome | None:
    """The outcome where there is nothing to compare, else ``None``."""

    def outcome(status: Status, why: str) -> Outcome:
        return Outcome(spec.name, precision.name, status, why)

    if why := unavailable_reason(precision) or spec.lacking:
        return outcome(Status.SKIPPED, why)
    if golden is None and spec.requires:
        needed = ", ".join(spec.requires)
        return outcome(Status.SKIPPED, f"never recorded where {needed} is installed: harness golden update there")
    if golden is None:
        return outcome(Status.MISSING, "not recorded: harness golden update --reason TEXT")
    if not is_of_the_same_case(spec, golden):
        return outcome(Status.FAILED, "recorded of another case or subject than the suite now names: update it")
    if precision.name in golden.recorded:
        return None
    if precision.device == "cuda":
        return outcome(Status.SKIPPED, "never recorded on a CUDA GPU: harness golden update on one")
    return outcome(Status.MISSING, "not recorded in this precision: harness golden update --reason TEXT")


def _judged(spec: GoldenSpec, golden: GoldenFile, precision: Precision, probe: Probe) -> Outcome:
    try:
        with precision.installed():
            observed = probe.observe(precision)
    except PrecisionError as error:
        return Outcome(spec.name, precision.name, Status.SKIPPED, str(error))
    except BaseException as error:
        reraise_unless_subjects(error)
        if lacking := why_torch_can_not(error):
            return Outcome(spec.name, precision.name, Status.SKIPPED, f"torch can't run it here: {lacking}")
        why = f"the subject raises {describe_exception(error)}"
        return Outcome(spec.name, precision.name, Status.FAILED, why)
    found: list[Deviation] = []
    key = probe.truth_key(precision)
    if key is not None:
        if key not in golden.truth:
            return Outcome(spec.name, precision.name, Status.MISSING, f"the truth for {key} is not recorded")
        recorded_truth, place = golden.truth[key].terms, Place(spec.name, precision.name, TRUTH)
        now = probe.truth(precision)
        moved = [d for d in deviations(place, recorded_truth, now, dict.fromkeys(now, _SAME_TRUTH)) if not d.within]
        if moved:
            why = f"the oracle's own {moved[0].term} is no more what is recorded as the truth: update, and say why"
            return Outcome(spec.name, precision.name, Status.FAILED, why, tuple(moved))
        found += deviations(place, recorded_truth, observed.terms, truth_tolerances(spec, observed))
    recorded = golden.recorded[precision.name].terms
    place = Place(spec.name, precision.name, RECORDED)
    found += deviations(place, recorded, observed.terms, dict(spec.tolerances))
    failed = [d for d in found if not d.within]
    why = f"{len(failed)} of {len(found)} terms beyond their tolerance" if failed else ""
    return Outcome(spec.name, precision.name, Status.FAILED if failed else Status.PASSED, why, tuple(found))


def _unused(goldens: GoldenFolder) -> Iterator[Outcome]:
    by_name = {spec.name: spec for spec in goldens.specs}
    for name in goldens.store.names():
        if name not in by_name:
            yield Outcome(name, "", Status.UNUSED, "the suite names no such golden")
            continue
        golden = goldens.store.read(name)
        for precision in golden.recorded if golden else ():
            if precision not in by_name[name].precisions:
                yield Outcome(name, precision, Status.UNUSED, "the suite names no such precision")
    for path in goldens.store.strays():
        yield Outcome(path.name, "", Status.UNUSED, "belongs to no golden")
