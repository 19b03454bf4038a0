"""Record a folder's goldens anew."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from harness.engine.events import unheard
from harness.errors import SubjectError, UsageError, describe_exception, reraise_unless_subjects
from harness.goldens.deviation import TRUTH, Place, deviations
from harness.goldens.events import GoldenRecorded, GoldensFinished, GoldensStarted, GoldenStarted, Listener
from harness.goldens.folder import GoldenFolder, is_of_the_same_case, precisions_of, truth_tolerances, unrecorded
from harness.goldens.golden_file import Entry, GoldenFile
from harness.goldens.outcome import Outcome, Status
from harness.goldens.probes import Observed
from harness.goldens.suite import GoldenSpec
from harness.goldens.terms import Array, Terms
from harness.goldens.torch_limits import why_torch_can_not
from harness.precision import Precision, unavailable_reason
from harness.precision.registry import PRECISIONS


@dataclass(frozen=True)
class Update:
    """What an update did: names written and removed, or, where the truth is violated, the failures and no writing."""

    written: tuple[str, ...]
    removed: tuple[str, ...]
    refused: tuple[Outcome, ...]


def update(goldens: GoldenFolder, reason: str, only: str | None = None, emit: Listener = unheard) -> Update:
    """Record the goldens (of the pattern) that this machine can run.

    What comes out bit for bit as recorded keeps its provenance, and what this machine can't run stays.  A value
    outside the truth's budget is refused, and then nothing is written at all.

    Args:
        reason: why, which is kept in the files.
        emit: told of each as it is done.

    Raises:
        UsageError: the reason is empty, or the pattern fits none.
        HarnessError: a subject can't be loaded, or raises.
    """
    began, chosen = time.monotonic(), goldens.selected(only)
    changed, refused = {}, []
    emit(GoldensStarted(len(chosen)))
    for spec in chosen:
        emit(GoldenStarted(spec.name))
        golden, failures = record(goldens, spec, reason)
        refused += failures
        if golden is not None:
            changed[spec.name] = golden
        emit(GoldenRecorded(spec.name, golden is not None, tuple(failures)))
    names = {spec.name for spec in goldens.specs}
    removed = tuple(name for name in goldens.store.names() if name not in names) if only is None else ()
    done = Update((), (), tuple(refused)) if refused else Update(tuple(changed), removed, ())
    if done.written or done.removed:
        goldens.store.replace(changed, removed)
    emit(GoldensFinished(time.monotonic() - began, done.written, done.removed))
    return done


def record(goldens: GoldenFolder, spec: GoldenSpec, reason: str) -> tuple[GoldenFile | None, list[Outcome]]:
    """The golden as this machine would record it, or ``None`` if nothing changes; and what the truth refuses."""
    if not reason.strip():
        raise UsageError("an update needs a reason, which is kept in the files: --reason TEXT.")
    before = _previous(goldens, spec)
    if spec.lacking:
        return None, []
    golden, probe, refused = unrecorded(spec), goldens.load(spec), []
    provenance = _provenance(reason)
    truths, recorded = {}, {}
    for precision in precisions_of(spec):
        if unavailable_reason(precision) is not None:
            if before is not None and precision.name in before.recorded:
                recorded[precision.name] = before.recorded[precision.name]
            continue
        device = torch.cuda.get_device_name() if precision.device == "cuda" else "cpu"
        try:
            with precision.installed():
                observed = probe.observe(precision)
        except BaseException as error:
            reraise_unless_subjects(error)
            if why_torch_can_not(error):
                if before is not None and precision.name in before.recorded:
                    recorded[precision.name] = before.recorded[precision.name]
                continue
            raise SubjectError(
                f"{spec.name} can't be recorded under {precision.name}: {spec.subject.spec} raises "
                f"{describe_exception(error)}."
            ) from error
        entry = Entry(observed.terms, spec.tolerances, {**provenance, "device": device})
        recorded[precision.name] = _kept(before.recorded if before else {}, precision.name, entry)
        key = probe.truth_key(precision)
        if key is not None:
            if key not in truths:
                allowed = truth_tolerances(spec, observed)
                entry = Entry(probe.truth(precision), allowed, {**provenance, "device": "cpu"})
                truths[key] = _kept(before.truth if before else {}, key, entry)
            refused += _refused(spec, precision, observed, truths[key])
    if before is not None:
        # A kind of inputs that only another machine's precisions have.
        for name in recorded:
            key = probe.truth_key(next(p for p in PRECISIONS if p.name == name))
            if key is not None and key in before.truth:
                truths.setdefault(key, before.truth[key])
    golden = replace(golden, truth=truths, recorded=recorded)
    return (None if before is not None and golden.encode() == before.encode() else golden), refused


def _previous(goldens: GoldenFolder, spec: GoldenSpec) -> GoldenFile | None:
    """What is recorded, if it is of this case; a damaged file is written over."""
    try:
        before = goldens.store.read(spec.name)
    except UsageError:
        return None
    return before if before is not None and is_of_the_same_case(spec, before) else None


def _refused(spec: GoldenSpec, precision: Precision, observed: Observed, truth: Entry) -> list[Outcome]:
    place = Place(spec.name, precision.name, TRUTH)
    found = deviations(place, truth.terms, observed.terms, truth_tolerances(spec, observed))
    failed = tuple(d for d in found if not d.within)
    why = f"{len(failed)} of {len(found)} terms outside the truth's budget"
    return [Outcome(spec.name, precision.name, Status.FAILED, why, failed)] if failed else []


def _kept(before: Mapping[str, Entry], key: str, entry: Entry) -> Entry:
    """The new entry, with the old one's provenance where the numbers are the same bits."""
    old = before.get(key)
    return (
        replace(entry, provenance=old.provenance) if old is not None and _identical(old.terms, entry.terms) else entry
    )


def _identical(a: Terms, b: Terms) -> bool:
    if list(a) != list(b):
        return False
    for x, y in zip(a.values(), b.values(), strict=True):
        if isinstance(x, Array) and isinstance(y, Array):
            data = torch.equal(x.data.nan_to_num(), y.data.nan_to_num()) and torch.equal(x.data.isnan(), y.data.isnan())
            if not data or (x.shape, x.sketched) != (y.shape, y.sketched):
                return False
        elif repr(x) != repr(y):  # by repr, since a NaN equals no NaN
            return False
    return True


def _provenance(reason: str) -> dict[str, str | int]:
    return {
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "date": datetime.date.today().isoformat(),
        "reason": reason.strip(),
    }
