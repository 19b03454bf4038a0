"""Record what the suite names under ``cuda-*`` precisions, and nothing else, in a copy of the goldens' folder.

``python -m harness.cuda_session.gpu_goldens --into DIR [--golden-dir DIR] [--json FILE]``: where it is done,
``DIR/recorded`` takes the place of ``golden/recorded``. Unlike ``harness golden update`` it records each by itself, so
that one that its truth refuses doesn't stop the others, and leaves what was recorded on CPUs as it is.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from harness.errors import ExitCode, HarnessError, describe_exception
from harness.files import write_atomically
from harness.goldens.folder import GoldenFolder
from harness.goldens.golden_file import Entry, GoldenFile
from harness.goldens.recording import record
from harness.goldens.suite import GoldenSpec
from harness.precision.registry import PRECISIONS, Precision, unavailable_reason
from harness.reports.environment import tf32_allowed
from harness.reports.golden_text import deviation_line

REASON = "recorded on a GPU"
_FAILED = ("refused", "raised")


@dataclass(frozen=True)
class Recording:
    """What became of one golden under one precision: ``recorded``, ``unchanged``, ``skipped``, ``refused`` (it lies
    outside the truth's budget) or ``raised``; ``why`` is empty for the first two.
    """

    golden: str
    precision: str
    status: str
    why: str = ""


def record_all(folder: Path, reason: str, device: str = "cuda") -> list[Recording]:
    """Record the suite's entries of this kind of device in ``folder``; the others stay as they are."""
    goldens, rows, changed = GoldenFolder(folder), [], {}
    wanted = {precision.name: precision for precision in PRECISIONS if precision.device == device}
    for spec in goldens.specs:
        before = goldens.store.read(spec.name)
        golden = before
        for name in spec.precisions:
            if name in wanted:
                golden, row = _recorded(goldens, spec, wanted[name], golden, reason)
                rows.append(row)
        if golden is not None and golden is not before:
            changed[spec.name] = golden
    if changed:
        goldens.store.replace(changed)
    return rows


def _recorded(
    goldens: GoldenFolder, spec: GoldenSpec, precision: Precision, before: GoldenFile | None, reason: str
) -> tuple[GoldenFile | None, Recording]:
    """The golden with this precision's entry, or as before; and what became of it."""

    def row(status: str, why: str = "") -> Recording:
        return Recording(spec.name, precision.name, status, why)

    if why := unavailable_reason(precision) or spec.lacking:
        return before, row("skipped", why)
    try:
        golden, refused = record(goldens, replace(spec, precisions=(precision.name,)), reason)
    except Exception as error:
        return before, row("raised", describe_exception(error))
    if refused:
        lines = [deviation_line(found) for found in refused[0].deviations]
        return before, row("refused", "; ".join([refused[0].reason, *lines]))
    if golden is None or precision.name not in golden.recorded:
        return before, row("unchanged")
    found = replace(golden, recorded={precision.name: _with_cuda(golden.recorded[precision.name])})
    if before is None or (before.subject, before.case) != (found.subject, found.case):
        return found, row("recorded")
    # Truths that were there stay: theirs is another machine's float64, which agrees.
    truth, recorded = {**found.truth, **before.truth}, {**before.recorded, **found.recorded}
    merged = replace(before, truth=truth, recorded=recorded)
    return (before, row("unchanged")) if merged.encode() == before.encode() else (merged, row("recorded"))


def _with_cuda(entry: Entry) -> Entry:
    """The entry with what its numbers depend on besides."""
    tf32 = [name for name, on in tf32_allowed().items() if on]
    more = {"cuda": str(torch.version.cuda), "tf32": ", ".join(tf32) or "off"}
    return replace(entry, provenance={**more, **entry.provenance})


def main(arguments: Sequence[str] | None = None) -> int:
    """Copy, record, and tell; exit 1 where one was refused or raised, 6 without a GPU."""
    parser = argparse.ArgumentParser(prog="python -m harness.cuda_session.gpu_goldens", description=__doc__)
    parser.add_argument(
        "--golden-dir", type=Path, default=Path("golden"), metavar="DIR", help="what is copied (golden)"
    )
    parser.add_argument("--into", type=Path, required=True, metavar="DIR", help="the copy")
    parser.add_argument("--reason", default=REASON, metavar="TEXT", help="kept in the files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what became of each there")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("no golden was recorded: there is no CUDA GPU", file=sys.stderr)
        return ExitCode.PRECISION
    try:
        shutil.copytree(options.golden_dir, options.into, dirs_exist_ok=True)
        rows = record_all(options.into, options.reason)
    except HarnessError as error:
        print(f"harness: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"harness: {error.filename or ''} {error.strerror or error}".strip(), file=sys.stderr)
        return ExitCode.USAGE
    if options.json:
        write_atomically(options.json, json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    for row in rows:
        print(f"{row.status:<10} {row.golden} [{row.precision}]{f': {row.why}' if row.why else ''}")
    return ExitCode.VIOLATED if any(row.status in _FAILED for row in rows) else ExitCode.HELD


if __name__ == "__main__":
    sys.exit(main())
