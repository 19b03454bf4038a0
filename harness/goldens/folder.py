"""A folder of goldens: its suite, what is recorded in it, and how the two belong together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.cases.serialization import descriptor_to_json
from harness.goldens.golden_file import GoldenFile
from harness.goldens.probes import Observed, Probe, load_probe
from harness.goldens.store import GoldenStore
from harness.goldens.suite import GoldenSpec, read_suite, selected
from harness.goldens.terms import Tolerance
from harness.precision import Precision, import_guard
from harness.precision.registry import PRECISIONS


class GoldenFolder:
    """The suite and the recorded goldens of one folder.

    Args:
        root: the folder put first on the import path of the subjects, or ``None``.

    Raises:
        UsageError: the suite is missing or malformed.
    """

    def __init__(self, folder: Path, root: str | None = None) -> None:
        self.specs = read_suite(folder)
        self.store = GoldenStore(folder)
        self._root = root

    def selected(self, only: str | None) -> Sequence[GoldenSpec]:
        """Those whose name the pattern fits, or all.

        Raises:
            UsageError: it fits none.
        """
        return selected(self.specs, only)

    def load(self, spec: GoldenSpec) -> Probe:
        """The golden's subject, ready to be run.

        Raises:
            HarnessError: it can't be loaded.
        """
        with import_guard():
            return load_probe(spec, self._root)


def precisions_of(spec: GoldenSpec) -> list[Precision]:
    """The precisions that the suite names, in its order."""
    by_name = {p.name: p for p in PRECISIONS}
    return [by_name[name] for name in spec.precisions]


def unrecorded(spec: GoldenSpec) -> GoldenFile:
    """The golden's file with nothing recorded in it."""
    similarity = {"similarity": True} if spec.subject.similarity else {}
    subject = {"spec": spec.subject.spec, "arguments": dict(spec.subject.arguments), **similarity}
    return GoldenFile(spec.name, spec.kind.value, subject, descriptor_to_json(spec.case))


def is_of_the_same_case(spec: GoldenSpec, golden: GoldenFile) -> bool:
    """Whether the file was recorded of the kind, subject and case that the suite now names."""
    plain = unrecorded(spec)
    return (plain.kind, plain.subject, plain.case) == (golden.kind, golden.subject, golden.case)


def truth_tolerances(spec: GoldenSpec, observed: Observed) -> dict[str, Tolerance]:
    """The precision's error budget, and what the suite puts in its place."""
    return {**observed.truth_tolerances, **spec.truth_tolerances}
