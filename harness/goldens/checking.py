"""Check a suite against what is recorded."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.cases.serialization import descriptor_to_json
from harness.errors import (
    PrecisionError,
    describe_exception,
    printable,
    reraise_unless_subjects,
)
from harness.goldens.deviation import RECORDED, TRUTH, Deviation, Place, deviations
from harness.goldens.golden_file import GoldenFile
from harness.goldens.probes import Observed, Probe, load_probe
from harness.goldens.store import GoldenStore
from harness.goldens.suite import GoldenSpec, read_suite, selected
from harness.goldens.terms import Tolerance
from harness.precision import Precision, import_guard, unavailable_reason
from harness.precision.registry import PRECISIONS

# The truth must come out alike wherever it is computed: float64 rounding, kept as float32 arrays.
_SAME_TRUTH = Tolerance(relative=1e-6, absolute=1e-12)
# torch's sentence where one of its kernels was built for other instructions than it may use here.
_INSTRUCTIONS = re.compile(r"\b(avx|amx|vnni|pack_vnni|sve|neon|vsx)\w*\b", re.IGNORECASE)
_LACKING = re.compile(r"\b(only|not) supported\b|\bunsupported\b|\brequires?\b", re.IGNORECASE)


class Status(str, enum.Enum):
    """What became of one golden under one precision."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    MISSING = "missing"  # the suite names it, nothing is recorded
    UNUSED = "unused"  # recorded, but the suite doesn't name it


@dataclass(frozen=True)
class Outcome:
    """One golden under one precision; ``reason`` is the sentence for people where it is not passed."""

    golden: str
    precision: str
    status: Status
    reason: str = ""
    deviations: tuple[Deviation, ...] = ()


class Goldens:
    """The suite and the recorded goldens of one folder."""

    def __init__(self, folder: Path, root: str | None = None) -> None:
        self.specs = read_suite(folder)
        self.store = GoldenStore(folder)
        self._root = root

    def check(self, only: str | None = None) -> Iterator[Outcome]:
        """Every golden (of the pattern) under every precision, as each is done; then those that nothing uses."""
        for spec in selected(self.specs, only):
            yield from self.check_one(spec)
        if only is None:
            yield from self._unused()

    def check_one(self, spec: GoldenSpec, precisions: tuple[str, ...] | None = None) -> Iterator[Outcome]:
        """One golden under its precisions, or those of them that are named.

        Raises:
            HarnessError: its files are damaged, or its subject can't be loaded.
        """
        golden = self.store.read(spec.name)
        probe: Probe | None = None
        for precision in precisions_of(spec):
            if precisions is not None and precision.name not in precisions:
                continue
            outcome = self._unmeasured(spec, golden, precision)
            if outcome is None:
                assert golden is not None
                probe = probe or self.load(spec)
                outcome = self._judged(spec, golden, precision, probe)
            yield outcome

    def load(self, spec: GoldenSpec) -> Probe:
        """The golden's subject, loaded through the door."""
        with import_guard():
            return load_probe(spec, self._root)

    def _unmeasured(self, spec: GoldenSpec, golden: GoldenFile | None, precision: Precision) -> Outcome | None:
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
        if not is_same_case(spec, golden):
            return outcome(Status.FAILED, "recorded of another case or subject than the suite now names: update it")
        if precision.name in golden.recorded:
            return None
        if precision.device == "cuda":
            return outcome(Status.SKIPPED, "never recorded on a CUDA GPU: harness golden update on one")
        return outcome(Status.MISSING, "not recorded in this precision: harness golden update --reason TEXT")

    def _judged(self, spec: GoldenSpec, golden: GoldenFile, precision: Precision, probe: Probe) -> Outcome:
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

    def _unused(self) -> Iterator[Outcome]:
        by_name = {spec.name: spec for spec in self.specs}
        for name in self.store.names():
            if name not in by_name:
                yield Outcome(name, "", Status.UNUSED, "the suite names no such golden")
                continue
            golden = self.store.read(name)
            for precision in golden.recorded if golden else ():
                if precision not in by_name[name].precisions:
                    yield Outcome(name, precision, Status.UNUSED, "the suite names no such precision")
        for path in self.store.strays():
            yield Outcome(path.name, "", Status.UNUSED, "belongs to no golden")


def why_torch_can_not(error: BaseException) -> str:
    """torch's own sentence where it has no kernel for this processor, or for the capability it was told; else empty.

    With ``ATEN_CPU_CAPABILITY=avx2`` on a processor with AMX, for one, a product of bfloat16 matrices raises
    "pack_vnni2 is only supported when avx512 is supported".
    """
    if type(error) is not RuntimeError:
        return ""
    first = printable(str(error).partition("\n")[0]).rstrip(".")
    return first if _INSTRUCTIONS.search(first) and _LACKING.search(first) else ""


def precisions_of(spec: GoldenSpec) -> list[Precision]:
    by_name = {p.name: p for p in PRECISIONS}
    return [by_name[name] for name in spec.precisions]


def described(spec: GoldenSpec) -> GoldenFile:
    subject = {"spec": spec.subject.spec, "arguments": dict(spec.subject.arguments)}
    return GoldenFile(spec.name, spec.kind.value, subject, descriptor_to_json(spec.case))


def is_same_case(spec: GoldenSpec, golden: GoldenFile) -> bool:
    plain = described(spec)
    return (plain.kind, plain.subject, plain.case) == (golden.kind, golden.subject, golden.case)


def truth_tolerances(spec: GoldenSpec, observed: Observed) -> dict[str, Tolerance]:
    return {**observed.truth_tolerances, **spec.truth_tolerances}
