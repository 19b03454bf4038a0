"""Ten thousand mutated files over all readers: ``python -m tests.mutated_files.campaign [N] [--only READER]``.

Each mutant is read by the command that reads such files, in this process. It must answer with exit code 0 and nothing
on stderr, or 2 or 3 and one line there; 1 only for a verdict on files that are well formed. Nothing may be raised,
hang, run what a file holds, or take a gigabyte.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.mutated_files.bundle_readers import bundle_readers
from tests.mutated_files.gslrm_readers import gslrm_readers
from tests.mutated_files.harness_readers import harness_readers
from tests.mutated_files.reader import Reader

SECONDS = 60
"""After which a reader hangs."""
LARGEST_MEMORY = 2**30


@dataclass
class Report:
    """Exit codes by reader, what went wrong, and the peak of this process's memory in bytes."""

    codes: dict[str, Counter[int]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def memory(self) -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class _Hangs(BaseException):
    pass


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise _Hangs

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def campaign(mutants: int, seed: int = 0, only: Sequence[str] = (), show: bool = False) -> Report:
    """Read so many mutants, shared out among the readers (or those named)."""
    report, start = Report(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutated-") as name:
        folder = Path(name)
        readers = (*harness_readers(), *bundle_readers(), *gslrm_readers(folder))
        chosen = [reader for reader in readers if not only or reader.name in only]
        total = sum(reader.share for reader in chosen)
        for reader in chosen:
            began, shown = time.monotonic(), len(report.wrong)
            report.codes[reader.name] = Counter()
            good = folder / reader.name.replace("'", "")
            good.mkdir()
            reader.write(good)
            for index in ["good", *range(max(1, round(mutants * reader.share / total)))]:
                _one(reader, good, folder / "mutant", f"{seed}/{reader.name}/{index}", report)
            if show:
                codes = dict(sorted(report.codes[reader.name].items()))
                took, peak = time.monotonic() - began, report.memory / 2**20
                for line in report.wrong[shown:]:
                    print(line, file=sys.__stdout__)
                print(f"{reader.name}: {codes}, {took:.0f} s, peak {peak:.0f} MB", file=sys.__stdout__, flush=True)
    report.seconds = time.monotonic() - start
    return report


_NOTICE = ": accepted, but nothing acts on these settings: "


def _one(reader: Reader, good: Path, mutant: Path, seed: str, report: Report) -> None:
    shutil.rmtree(mutant, ignore_errors=True)
    shutil.copytree(good, mutant, symlinks=True)
    if seed.endswith("/good"):
        right_code = reader.good
    else:
        reader.spoil(mutant, random.Random(seed))
        right_code = None
    stdout, stderr = io.StringIO(), io.StringIO()
    memory = report.memory
    try:
        with _watched(), contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            code = reader.run(mutant)
    except (Exception, SystemExit, _Hangs) as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        report.wrong.append(f"{seed}: {type(error).__name__}: {str(error)[:300]} ({where.filename}:{where.lineno})")
        return
    report.codes[reader.name][int(code)] += 1
    said = stderr.getvalue()
    right = {0: said == "", 1: said == "" and reader.verdicts(mutant), 2: True, 3: True}.get(code, False)
    if code in (2, 3):
        # A configuration may be right but for what nothing acts on, of which it is told besides.
        lines = [line for line in said.splitlines() if _NOTICE not in line]
        right = len(lines) == 1 and said.endswith("\n") and len(said) < 4000 and "Traceback" not in said
    if not right or right_code not in (None, code):
        report.wrong.append(
            f"{seed}: exit {code}, stderr {said[:300]!r} … {said[-200:]!r}, stdout {stdout.getvalue()[-300:]!r}"
        )
    if report.memory > max(memory, LARGEST_MEMORY):
        report.wrong.append(f"{seed}: the process has taken {report.memory / 2**20:.0f} MB")


def main() -> int:
    """Run the campaign, and exit with 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mutants", nargs="?", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="READER", action="append", help="repeatable; then they share out all")
    options = parser.parse_args()
    report = campaign(options.mutants, options.seed, options.only or (), show=True)
    run = sum(sum(codes.values()) for codes in report.codes.values())
    print(f"{run} mutants in {report.seconds:.0f} s, peak {report.memory / 2**20:.0f} MB, {len(report.wrong)} wrong")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
