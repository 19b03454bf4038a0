"""Mutation testing: ``python -m tests.mutation [--only NAME] [--sample N] [--slice I/N] [--budget 10m]``.

Each mutant of the loss and step modules is judged by what ``harness check`` and the goldens do, each of the oracle and
of the properties by their tests. A line of JSON for each goes to ``--out``; run again, it goes on where it was. Exit
code 1 where fewer than ``--least`` percent of those that aren't equivalent are killed, 2 for bad input.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import UsageError
from harness.files import write_atomically
from tests.mutation.bench import Bench, BrokenBenchError
from tests.mutation.mutants import Mutant, mutants_of, places_of
from tests.mutation.records import append, read_equivalent, read_records, record, still_stands
from tests.mutation.table import rendered, score
from tests.mutation.targets import TARGETS, Target

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None, root: Path = ROOT, targets: Sequence[Target] = TARGETS) -> int:
    """As the command line says; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return _run(options, root, targets)
    except (UsageError, BrokenBenchError) as error:
        print(f"mutation: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace, root: Path, targets: Sequence[Target]) -> int:
    deadline = None if options.budget is None else time.monotonic() + options.budget
    chosen = [(target, file) for target in targets for file in target.files(root)]
    if options.only:
        # Else --only loss would take harness/properties/loss_value.py too.
        names = {target.name for target in targets}
        chosen = [(t, f) for t, f in chosen if any(o == t.name if o in names else o in f for o in options.only)]
    if options.stages is not None:
        cut = {target: replace(target, stages=target.stages[: options.stages]) for target, _ in chosen}
        chosen = [(cut[target], file) for target, file in chosen]
    if options.without:
        left = {target: _without(target, options.without) for target, _ in chosen}
        chosen = [(left[target], file) for target, file in chosen]
    if not chosen:
        known = ", ".join(target.name for target in targets)
        raise UsageError(f"no module fits {' or '.join(options.only)}; targets are {known}, or give a part of a path.")
    equivalent = read_equivalent(root / "tests/mutation/equivalent.toml")
    sources = {file: (root / file).read_text(encoding="utf-8") for _, file in chosen}
    mutants = {file: mutants_of(root, file, options.sample, options.seed) for file in sources}
    out = Path(options.out)
    done = {key: one for key, one in read_records(out).items() if still_stands(one, sources)}
    if options.again:
        done = {key: one for key, one in done.items() if one["outcome"] != "survived"}
    for target in dict.fromkeys(target for target, _ in chosen):
        files = [file for t, file in chosen if t is target]
        part = [mutant for file in files for mutant in mutants[file]]
        index, of = options.slice
        # Shared out one by one: the modules' mutants don't all cost the same.
        due = [mutant for mutant in part[index - 1 :: of] if mutant.key not in done]
        if options.known:
            due = [mutant for mutant in due if mutant.key not in equivalent]
        if due and not _judged(root, target, due, deadline, out, options.reached_before):
            print("mutation: out of time; run it again to go on", flush=True)
            break
    records = [one for one in read_records(out).values() if still_stands(one, sources)]
    totals = {file: len(places_of(source)) for file, source in sources.items()}
    if options.markdown:
        write_atomically(Path(options.markdown), rendered(records, totals, equivalent))
    killed, counted = score(records, equivalent)
    share = 100 * killed / counted if counted else 100.0
    print(f"mutation: {killed} of {counted} killed, {share:.1f} %; {len(records)} judged")
    return 0 if share >= options.least else 1


def _judged(root: Path, target: Target, due: Sequence[Mutant], deadline: float | None, out: Path, anyway: bool) -> bool:
    """Whether there was time for all."""
    parts = [part for stage in target.stages for part in stage.get("without", ())]
    names = [out.stem, target.name, "reached", *(["without", *parts] if parts else [])]
    kept = out.with_name("-".join(names).replace("/", "_") + ".json")
    with Bench(root, target, kept, anyway) as bench:
        print(f"{target.name}: {len(due)} mutants; without one {bench.sound_seconds:.1f} s", flush=True)
        for number, mutant in enumerate(due, 1):
            if deadline is not None and time.monotonic() > deadline:
                return False
            found = record(mutant, bench.judge(mutant))
            append(out, found)
            by = f" by {found['by']}" if found["by"] else ""
            print(f"{number}/{len(due)} {mutant.place} {mutant.operator}: {found['outcome']}{by}", flush=True)
    return True


def _without(target: Target, parts: Sequence[str]) -> Target:
    stages = ({**stage, "without": list(parts)} if stage["by"] == "tests" else stage for stage in target.stages)
    return replace(target, stages=tuple(stages))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--only", action="append", metavar="NAME", default=[], help="a target, or a part of a path")
    parser.add_argument("--sample", type=int, metavar="N", help="of each module so many mutants, drawn by the seed")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the sample (0)")
    parser.add_argument("--slice", type=_slice, default=(1, 1), metavar="I/N", help="the I-th of N parts")
    parser.add_argument("--stages", type=int, metavar="N", help="of each target the first N stages alone")
    parser.add_argument(
        "--without", action="append", metavar="PART", default=[], help="leave out test files with this in their path"
    )
    parser.add_argument("--budget", type=_seconds, metavar="TIME", help="as 10m: after it no mutant is begun")
    parser.add_argument("--again", action="store_true", help="judge again what survived")
    parser.add_argument(
        "--reached-before",
        action="store_true",
        help="though code has changed, take what was found before of which tests reach what; changed tests run whole",
    )
    parser.add_argument("--known", action="store_true", help="pass over what is known to be equivalent")
    parser.add_argument("--out", default=".harness/mutation.jsonl", metavar="FILE", help="(.harness/mutation.jsonl)")
    parser.add_argument("--markdown", metavar="FILE", help="write counts and survivors there")
    parser.add_argument("--least", type=float, default=95.0, metavar="PERCENT", help="to be killed (95)")
    return parser


def _slice(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is no part such as 1/4")
    return int(match[1]), int(match[2])


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 90s, 10m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


if __name__ == "__main__":
    # So that an ended run takes its copy away too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
