"""Kill ``harness check`` at random moments and look at what is left: ``python -m tests.harness.engine.kill_campaign``.

After each kill nothing runs on, every finding that was on disk is there and whole, and one of them replays.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.findings.case_file import read_case_file
from harness.findings.replay import replay_contained
from harness.subjects.known_bad import KNOWN_BAD
from tests.harness.engine.processes import wait_until_gone

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# A check whose cells are violated, and one that leaves children and threads behind.
SUBJECTS = (
    (KNOWN_BAD[0].spec, "masked-ssim"),
    (f"{Path(__file__).with_name('hostile.py')}:leaves", "mse"),
)
# From the start or from the first case on.
LONGEST_SECONDS = 4.0
_FROM_THE_FIRST_CASE = 0.7
SECONDS_TO_END = 2.0
# For the command itself to end; beyond it, on a machine however busy, it hangs.
_HANG_SECONDS = 20.0


def kill_once(folder: Path, seed: int) -> str:
    """One run, killed; what was seen, in words.

    Raises:
        AssertionError: something was lost, broken or left running.
    """
    numbers = random.Random(seed)
    signum, (spec, truth) = SIGNALS[seed % len(SIGNALS)], SUBJECTS[seed // len(SIGNALS) % len(SUBJECTS)]
    cases, report = folder / "cases", folder / "report.json"
    command = [sys.executable, "-m", "harness", "check", "--loss", spec, "--truth", truth, "--workers", "2"]
    command += ["--cases-dir", str(cases), "--json", str(report), "--seed", str(seed), "--max-examples", "20"]
    for name in ("range", "identity", "strides", "repeatable"):
        command += ["--property", name]
    for name in ("float16-inputs", "bfloat16-inputs", "cpu-autocast-bfloat16"):
        command += ["--precision", name]
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, start_new_session=True)
        if numbers.random() < _FROM_THE_FIRST_CASE:
            # On a machine however busy, while cases are run.
            deadline = time.monotonic() + 60.0
            while not list(cases.glob("*.json")) and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
        time.sleep(numbers.uniform(0.0, LONGEST_SECONDS))
        findings = {path.name for path in _findings(cases)}
        process.send_signal(signum)
        sent = time.monotonic()
        try:
            code = process.wait(timeout=_HANG_SECONDS)
        finally:
            process.kill()
    took = time.monotonic() - sent
    left = wait_until_gone(folder, SECONDS_TO_END)
    assert not left, f"left running: {left}"
    printed = (folder / "output").read_text()
    # Python itself may still be starting, or ending, where no handler is in place.
    assert "Traceback" not in printed or "harness: interrupted" not in printed, printed
    _look_at(cases, findings)
    how = f"{signum.name} → {code}, {'findings' if list(_findings(cases)) else 'none'} on disk"
    if took > SECONDS_TO_END:
        how += f" (only after {took:.1f} s)"
    if report.exists():
        data = json.loads(report.read_text())
        assert data["status"] in ("finished", "interrupted")
        assert (data["status"] == "finished") == (code in (0, 1)) or code < 0
        how += f", report {data['status']}"
    return how


def _findings(cases: Path) -> Iterator[Path]:
    return (path for path in cases.glob("*.json") if not path.name.startswith("in-flight"))


def _look_at(cases: Path, findings: set[str]) -> None:
    """All findings that were there before are, all files are whole, and one of each kind replays."""
    assert findings <= {path.name for path in _findings(cases)}
    files = sorted(cases.glob("*.json"))
    for path in files:
        # A worker's file is opened a moment before its first case is written.
        if path.stat().st_size or not path.name.startswith("in-flight"):
            json.loads(path.read_text())
            read_case_file(path)
    whole = [path for path in files if path.stat().st_size]
    for path in whole[:1] + whole[-1:]:
        # One of the subjects leaves threads and children in its process.
        replay_contained(path)


def campaign(seeds: Sequence[int]) -> Counter[str]:
    """How often what was seen.

    Raises:
        AssertionError: as :func:`kill_once`, naming the seed.
    """
    seen: Counter[str] = Counter()
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            try:
                seen[kill_once(Path(folder), seed)] += 1
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {error}") from error
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed (0)")
    options = parser.parse_args()
    for seed in range(options.first, options.first + options.times):
        print(seed, *campaign([seed]), flush=True)


if __name__ == "__main__":
    main()
