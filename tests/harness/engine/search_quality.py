"""How far is the worst figure of a default search from that of ten times the examples? A campaign, no test.

``python -m tests.harness.engine.search_quality [LOSS …] [--property NAME …] [--precision NAME …] [--seeds N]`` prints a
line for each cell: both badnesses and figures, and their ratio; of `range`, where rounding can take a denominator to
0 and there is no worst, that of badnesses of at most 2, as much again outside the range as it reaches to either side
of its middle. Nothing is made smaller.  A cell takes some ten to
forty seconds.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace
from pathlib import Path

import torch

from harness.config import Settings
from harness.engine import case_search
from harness.engine.plan import Task
from harness.engine.result import TaskResult
from harness.engine.run import TaskRunner
from harness.precision import precisions_named
from harness.subject_spec import SubjectKind

_PUBLIC = str(Path(__file__).parents[1] / "subjects" / "public_losses.py")
LOSSES = {
    "pytorch-msssim": Settings(loss="harness.subjects.known_bad.losses:LossBeforeFix", truth="masked-ssim"),
    "zero-padded": Settings(loss=f"{_PUBLIC}:zero_padded", similarity=True),
    "on-black": Settings(loss=f"{_PUBLIC}:on_black"),
    "splatting": Settings(loss=f"{_PUBLIC}:splatting"),
    "pooled-half": Settings(loss=f"{_PUBLIC}:PooledHalf", reduce="mean"),
}
"""Losses as public code has them; none leaves autocast."""
_FAR_OUT = 2.0


def worst(name: str, property_: str, precision: str, seed: int, examples: int) -> TaskResult:
    """The result of a search that only looks for the worst."""
    settings = replace(LOSSES[name], max_examples=examples, seed=seed)
    return TaskRunner(settings).run(Task(SubjectKind.LOSS, property_, precision), lambda _: None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("losses", nargs="*", default=list(LOSSES))
    parser.add_argument("--property", action="append")
    parser.add_argument("--precision", action="append")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--without-walk", action="store_true", help="from the worst case to worse ones")
    options = parser.parse_args()
    if options.without_walk:
        case_search._WALK = case_search._LESSER_WALK = 0
    torch.set_num_threads(1)
    # The smallest case is not what is asked for here.
    case_search._CaseSearch._make_smaller = lambda self: None  # type: ignore[method-assign]
    precisions = [precision.name for precision in precisions_named(options.precision or ())]
    for name in options.losses:
        for property_ in options.property or ("range", "accuracy"):
            for precision in precisions:
                for seed in range(options.seeds):
                    began = time.monotonic()
                    few = worst(name, property_, precision, seed, options.examples)
                    between = time.monotonic()
                    many = worst(name, property_, precision, seed, 10 * options.examples)
                    seconds = between - began, time.monotonic() - between
                    print(_line(name, property_, precision, seed, few, many, seconds), flush=True)


def _line(
    name: str,
    property_: str,
    precision: str,
    seed: int,
    few: TaskResult,
    many: TaskResult,
    seconds: tuple[float, float],
) -> str:
    most = _FAR_OUT if property_ == "range" else math.inf
    ratio = min(many.badness, most) / min(few.badness, most) if few.badness and few.badness != math.inf else math.nan
    levels = "/".join(found.level.value if found.level else "held" for found in (few, many))
    return (
        f"{name:15} {property_:9} {precision:22} seed {seed}: {few.worst!s:.10} → {many.worst!s:.10} ({levels}), "
        f"badness {few.badness:.3g} → {many.badness:.3g}, {ratio:.2f} times; {seconds[0]:.0f} s, {seconds[1]:.0f} s"
    )


if __name__ == "__main__":
    main()
