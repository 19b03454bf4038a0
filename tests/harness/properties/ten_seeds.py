"""Do acquittals and convictions hang on the seed? A campaign, no test.

``python -m tests.harness.properties.ten_seeds [--seeds N] [--examples N] [--only WORD]`` runs every right loss against
all properties and every mutant against the property it breaks, in float32, once for each seed. It prints a line for
each subject, and ends with 1 if a right one had a fault or a mutant went free. All of it takes some twenty minutes.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch

from harness.config import Settings
from harness.engine import case_search
from harness.engine.plan import Task
from harness.engine.result import Status, TaskResult
from harness.engine.run import TaskRunner
from harness.oracle.levels import Level
from harness.properties import LOSS_PROPERTIES
from harness.subject_spec import SubjectKind
from tests.harness.properties.test_properties import _convictions
from tests.harness.properties.test_right_ones import _LOSSES, _SUBJECTS


def _results(spec: str, names: list[str], seed: int, examples: int) -> list[TaskResult]:
    runner = TaskRunner(Settings(loss=spec, truth="masked-ssim", max_examples=examples, seed=seed))
    return [runner.run(Task(SubjectKind.LOSS, name, "float32"), lambda _: None) for name in names]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--examples", type=int, default=30)
    parser.add_argument("--only", default="", help="subjects whose name has this in it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    # The smallest case is not what is asked for here.
    case_search._CaseSearch._make_smaller = lambda self: None  # type: ignore[method-assign]
    right = {f"{_SUBJECTS / 'right_losses.py'}:{name}": [p.name for p in LOSS_PROPERTIES] for name in _LOSSES}
    mutants = {spec: [name] for kind, name, spec in _convictions() if kind == "loss"}
    wrong = 0
    for spec, names in {**right, **mutants}.items():
        if options.only not in spec.partition(":")[2]:
            continue
        began, told = time.monotonic(), []
        for seed in range(options.seeds):
            results = _results(spec, names, seed, options.examples)
            if spec in right:
                told += [f"seed {seed}: {r.task.property}: {r.message}" for r in results if r.level is Level.FAULT]
            else:
                told += [f"seed {seed}: {r.task.property} held" for r in results if r.status is not Status.VIOLATED]
        wrong += bool(told)
        what = "acquitted" if spec in right else "convicted"
        heard = "; ".join(told) or f"{what} at {options.seeds} seeds of {options.seeds}"
        print(f"{spec.partition(':')[2]}: {heard} ({time.monotonic() - began:.0f} s)", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
