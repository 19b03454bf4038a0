"""``harness conditions``: under which conditions does the loss leave its range?"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.cli.check import add_call_options, add_loss_options, add_subject_options, given_subject, write_reports
from harness.config import load_settings
from harness.errors import ExitCode, UsageError


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "conditions",
        help="measure under which conditions a loss leaves its range, or is wrong",
        description="Run a loss over a grid of foreground, perturbation, size and precision, and tell how often and "
        "how far it leaves its range or its error budget. Measures, and judges nothing: the exit code is 0.",
    )
    add_subject_options(parser)
    add_loss_options(parser)
    add_call_options(parser)
    parser.add_argument("--precision", action="append", metavar="NAME", help="only this precision (repeatable)")
    parser.add_argument("--size", action="append", type=int, metavar="PX", help="side of the images (32, 64, 128)")
    share = "foreground's share of the image, up to 1; 0: the pictures' own masks (1/1024 to 1, by fours)"
    parser.add_argument("--foreground", action="append", type=float, metavar="SHARE", help=share)
    parser.add_argument(
        "--magnitude", action="append", type=float, metavar="X", help="of the perturbation (1e-6 to 1e-1, by tens)"
    )
    parser.add_argument("--repeats", type=int, metavar="N", help="cases in each place of the grid (4)")
    parser.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same cases (0)")
    parser.add_argument("--csv", metavar="FILE", type=Path, help="write the numbers there")
    parser.add_argument("--png", metavar="FILE", type=Path, help="draw heat maps there")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, print, write."""
    given = given_subject(options)
    settings = load_settings({**given, "precisions": options.precision, "seed": options.seed})
    from harness.conditions.sweep import OWN_MASK, Grid, run_sweep
    from harness.engine.session import Session
    from harness.precision import precisions_named
    from harness.process_state import one_thread
    from harness.reports.conditions import draw_conditions, show_conditions, write_csv
    from harness.reports.console import report_console
    from harness.reports.progress import ProgressBar
    from harness.subject_spec import SubjectKind

    if settings.loss is None:
        raise UsageError("nothing to measure: name a loss with --loss, or in pyproject.toml under [tool.harness].")
    precisions = precisions_named(settings.precisions)
    chosen = {
        "sizes": options.size and tuple(options.size),
        "shares": options.foreground and tuple(options.foreground),
        "magnitudes": options.magnitude and tuple(options.magnitude),
        "repeats": options.repeats,
    }
    grid = Grid(seed=settings.seed, **{name: value for name, value in chosen.items() if value is not None})
    if settings.images and not options.foreground:
        grid = replace(grid, shares=(OWN_MASK, *grid.shares))
    # Made absolute now: a subject may change the working folder.
    wanted = ((options.csv, write_csv), (options.png, draw_conditions))
    reports = [(path.absolute(), write) for path, write in wanted if path is not None]
    console = report_console()
    with one_thread(), ProgressBar(console) as bar:
        session = Session(replace(settings, step=None))
        subject = session.subject(SubjectKind.LOSS)
        bar.begin(grid.places * len(precisions))
        sweep = run_sweep(subject, precisions, grid, session.folder, bar.did)
    unwritten = write_reports(reports, sweep)
    show_conditions(sweep, console)
    if unwritten is not None:
        raise unwritten
    return ExitCode.HELD
