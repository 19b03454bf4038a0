"""``harness compare SPEC_A SPEC_B``: do two implementations, or two revisions of one, agree?"""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.config import load_settings
from harness.errors import ExitCode, UsageError


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "compare",
        help="compare two implementations, or two git revisions, case by case",
        description="Run the same cases on two losses or two steps: exit 0 where they agree, 1 where they differ, 5 "
        "where both raise in every case. "
        "With one SPEC, or none (the loss of [tool.harness]), it is the same on both sides: name two revisions.",
    )
    parser.add_argument("spec_a", nargs="?", metavar="SPEC_A", help="package.module:name or path/to/file.py:name")
    parser.add_argument("spec_b", nargs="?", metavar="SPEC_B", help="likewise")
    parser.add_argument("--rev", nargs=2, metavar=("A", "B"), help="the git revisions of both sides")
    for side in "ab":
        parser.add_argument(f"--rev-{side}", metavar="REV", help=f"side {side.upper()} as of this git revision")
        parser.add_argument(f"--root-{side}", metavar="DIR", help=f"side {side.upper()}'s checkout")
    parser.add_argument(
        "--similarity", action="store_true", default=None, help="both return a similarity, take 1 - value"
    )
    parser.add_argument("--truth", metavar="NAME", help="what both losses are meant to be (masked-ssim)")
    constructor = "give both constructors this argument, VALUE as in JSON or plain text (repeatable)"
    parser.add_argument("--argument", action="append", metavar="NAME=VALUE", help=constructor)
    parser.add_argument("--precision", metavar="NAME", default="float32", help="compare in this precision (float32)")
    parser.add_argument("--budget", type=float, metavar="REL", help="relative difference that is none (1e-3)")
    parser.add_argument("--max-examples", type=int, metavar="N", help="cases (100)")
    parser.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same cases (0)")
    parser.add_argument("--json", metavar="FILE", help="write the results there")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Compare, report, and give the exit code."""
    settings = load_settings(
        {
            # What goes with the default subject doesn't go with another.
            "loss": options.spec_a or None,
            "similarity": options.similarity,
            "truth": options.truth,
            "arguments": options.argument,
            "max_examples": options.max_examples,
            "seed": options.seed,
        }
    )
    spec_a = settings.loss
    if spec_a is None:
        raise UsageError("nothing to compare: name a subject, or one in pyproject.toml under [tool.harness].")
    if options.rev and (options.rev_a or options.rev_b):
        raise UsageError("--rev names both revisions: leave out --rev-a and --rev-b.")
    if options.budget is not None and not 0 <= options.budget < float("inf"):
        raise UsageError(f"--budget is {options.budget}, but must be a number from 0 up.")
    specs = (spec_a, options.spec_b or spec_a)
    revisions = options.rev or (options.rev_a, options.rev_b)
    roots = (options.root_a, options.root_b)

    from harness.comparison.agreement import Comparer, both_sides
    from harness.comparison.events import Event
    from harness.comparison.revisions import revision_root
    from harness.engine.search import keep_hypothesis_in
    from harness.files import write_atomically
    from harness.oracle.budget import RELATIVE
    from harness.oracle.definitions import definition_named
    from harness.precision import precisions_named
    from harness.reports.comparison_model import ComparisonModel
    from harness.reports.comparison_text import comparison_lines, comparison_report
    from harness.reports.console import report_console
    from harness.reports.environment import environment
    from harness.reports.progress import ComparisonProgress, ProgressBar
    from harness.subject_spec import AUTO_TRUTH, DEFAULT_TRUTH, SubjectKind

    precisions_named([options.precision])
    if settings.truth == AUTO_TRUTH:
        # Two sides are compared on the cases of what either is expected to be.
        settings = replace(settings, truth=DEFAULT_TRUTH)
    definition = definition_named(settings.truth)
    keep_hypothesis_in(Path(settings.cases_dir))
    console, model = report_console(), ComparisonModel()
    with ExitStack() as stack:
        sides, names = [], []
        for letter, spec, revision, root in zip("AB", specs, revisions, roots, strict=True):
            if revision and root:
                raise UsageError(f"side {letter} can't have both a revision and a checkout of its own.")
            if revision:
                root = str(stack.enter_context(revision_root(revision, Path.cwd())))
            subject = settings.subject(SubjectKind.LOSS)
            assert subject is not None
            sides.append(replace(subject, spec=spec, root=root or settings.subject_root))
            names.append(f"{spec} at {revision}" if revision else spec)
            console.plain(f"{letter}: {names[-1]}")
        bar = stack.enter_context(ProgressBar(console))
        progress = ComparisonProgress(bar)
        a, b = stack.enter_context(both_sides(sides[0], sides[1], options.precision))
        budget = RELATIVE if options.budget is None else options.budget
        comparer = Comparer(a, b, options.precision, budget, definition)

        def listen(event: Event) -> None:
            model(event)
            progress(event)

        comparer.compare(settings.max_examples, settings.seed, listen, environment())
    comparison = model.comparison
    for line in comparison_lines(comparison):
        console.plain(line)
    if options.json:
        report = comparison_report(model, names[0], names[1], sides[0])
        text = json.dumps(report, indent=1, allow_nan=False)
        write_atomically(Path(options.json), text + "\n")
    if not comparison.compared:
        return ExitCode.INCOMPLETE
    return ExitCode.HELD if comparison.first is None else ExitCode.VIOLATED
