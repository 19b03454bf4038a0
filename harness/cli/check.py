"""``harness check``: does the subject keep its promises?"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.config import Settings, load_settings, step_summary
from harness.errors import Interrupted
from harness.imports import import_dynamo, quick_imports

if TYPE_CHECKING:
    from harness.engine.result import TaskResult
    from harness.reports.run_model import RunModel

T = TypeVar("T")
# What writes a report of a run, whole as JSON has it, into a file.
Rendering = tuple[Path, Callable[[Path, Mapping[str, Any]], None]]

# By the option that asks for each: the module in `harness.reports`, loaded where it is asked for, and its function.
_RENDERINGS = {
    "html": ("page.page", "write_page"),
    "junit": ("junit", "write_junit"),
    "markdown": ("markdown", "write_markdown"),
    "sarif": ("sarif", "write_sarif"),
}


def add_subject_options(parser: argparse.ArgumentParser, bare: bool = False) -> None:
    """The options that name a subject; with ``bare``, ``--loss`` and ``--step`` without SPEC mean the default one."""
    group = parser.add_argument_group("subject", "SPEC is package.module:name or path/to/file.py:name")
    optional: dict[str, Any] = {"nargs": "?", "const": ""} if bare else {}
    takes = "(x, y), (rendering, target, mask) or (xyz, origin, direction, mask)"
    loss = f"a loss: class or function of {takes}"
    step = "an AMP training step, ours or FaceLift-shaped, or a whole training"
    group.add_argument("--loss", metavar="SPEC", help=loss, **optional)
    group.add_argument("--step", metavar="SPEC", help=step, **optional)
    group.add_argument("--subject-root", metavar="DIR", help="put this checkout first on the import path")
    group.add_argument("--images", metavar="DIR", help="use these pictures instead of the bundled ones")


def add_loss_options(parser: argparse.ArgumentParser) -> None:
    """What a loss gives and is held to."""
    parser.add_argument(
        "--similarity", action="store_true", default=None, help="the loss returns a similarity, take 1 - value"
    )
    parser.add_argument(
        "--truth", metavar="NAME", help="what the loss is meant to be, which then binds (auto: found out)"
    )
    constructor = "give the loss, or its class' constructor, this argument, VALUE as in JSON or plain text (repeatable)"
    parser.add_argument("--argument", action="append", metavar="NAME=VALUE", help=constructor)


def add_call_options(parser: argparse.ArgumentParser) -> None:
    """How a loss is called."""
    parser.add_argument("--call", metavar="CALL", help="call the loss so: 'f(x, y, 11)', 'f(x, y, mask=mask)'")
    parser.add_argument("--reduce", choices=("mean", "sum"), help="the loss gives a map of values, take this of it")
    parser.add_argument("--scale", type=float, metavar="NUMBER", help="multiply the loss by this before judging it")


def given_subject(options: argparse.Namespace) -> dict[str, Any]:
    """What these options say of the subject, by the settings' names; what isn't given is left out."""
    names = ("loss", "step", "subject_root", "images", "similarity", "truth", "call", "reduce", "scale")
    given = {**{name: getattr(options, name, None) for name in names}, "arguments": options.argument}
    return {name: value for name, value in given.items() if value is not None}


def add_report_options(parser: argparse.ArgumentParser) -> None:
    """The renderings of a run, each into a file."""
    parser.add_argument("--html", metavar="FILE", help="write one page there, to be read in a browser, offline")
    parser.add_argument("--junit", metavar="FILE", help="write JUnit XML there, which CI systems show as tests")
    parser.add_argument("--markdown", metavar="FILE", help="write a summary in GitHub's Markdown there")
    parser.add_argument("--sarif", metavar="FILE", help="write SARIF there, which code scanning shows at the line")


def renderings(options: argparse.Namespace) -> list[Rendering]:
    """The files that these options ask for, made absolute, and what writes each."""
    import importlib

    wanted = []
    for name, (module, function) in _RENDERINGS.items():
        if (file := getattr(options, name)) is not None:
            write = getattr(importlib.import_module(f"harness.reports.{module}"), function)
            wanted.append((Path(file).absolute(), write))
    return wanted


def add_case_timeout(parser: argparse.ArgumentParser) -> None:
    """How long the subject may take."""
    what = "end a subject that takes longer for one case, or to be loaded (60)"
    parser.add_argument("--case-timeout", type=float, metavar="SECONDS", help=what)


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "check",
        help="check a loss and a training step against all properties",
        description="Check the loss and the step of [tool.harness] in pyproject.toml, or those named here; --loss or "
        "--step without SPEC: only that default. What failed before, and the regression cases, are tried first.",
    )
    add_check_options(parser)
    parser.add_argument("--json", metavar="FILE", help="write the results there")
    parser.add_argument("-x", "--exitfirst", action="store_true", help="stop at the first fault: the rest is not run")
    parser.add_argument(
        "--verbose", action="store_true", help="also show what the subject prints and its warnings, each as it comes"
    )
    add_report_options(parser)
    parser.set_defaults(run=run)


def add_check_options(parser: argparse.ArgumentParser) -> None:
    """What is checked, how far, and against what."""
    add_subject_options(parser, bare=True)
    add_loss_options(parser)
    add_call_options(parser)
    parser.add_argument("--precision", action="append", metavar="NAME", help="only this precision (repeatable)")
    parser.add_argument("--property", action="append", metavar="NAME", help="only this property (repeatable)")
    parser.add_argument(
        "--promise",
        action="append",
        metavar="NAME=VALUE",
        help="hold the step to a policy: norm-limit=20 (repeatable)",
    )
    parser.add_argument(
        "--without", action="append", metavar="FAULT", help="leave this fault out of the step's programs (repeatable)"
    )
    parser.add_argument(
        "--strict", action="store_true", default=None, help="fail for every level of violation, not for faults alone"
    )
    parser.add_argument("--max-examples", type=int, metavar="N", help="examples per property and precision (100)")
    parser.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same cases (0)")
    parser.add_argument("--max-time", type=float, metavar="SECONDS", help="start no example after this long")
    add_case_timeout(parser)
    parser.add_argument("--workers", type=int, metavar="N", help="processes (one per processor)")
    parser.add_argument("--cases-dir", metavar="DIR", help="where failing cases are kept (.harness/cases)")
    add_regressions_dir(parser)
    parser.add_argument("--baseline", metavar="FILE", help="the accepted violations (.harness/baseline.json)")


def add_regressions_dir(parser: argparse.ArgumentParser) -> None:
    """Where regression cases lie."""
    parser.add_argument("--regressions-dir", metavar="DIR", help="the regression cases (.harness/regressions)")


def run(options: argparse.Namespace) -> int:
    """Check, report, and give the exit code."""
    settings = check_settings(options)
    if options.own_process:
        _import_at_once(settings)
    from harness.findings.baseline import read_baseline
    from harness.reports.json_report import write_report
    from harness.reports.markdown import append_markdown
    from harness.reports.run_model import RunModel

    # Made absolute now: a subject may change the working folder.
    reports = renderings(options)
    if options.json is not None:
        reports.append((Path(options.json).absolute(), write_report))
    if (github := step_summary()) is not None:
        reports.append((github, append_markdown))
    run_model = RunModel(read_baseline(Path(settings.baseline)))
    forks = options.own_process
    check(settings, run_model, reports, verbose=options.verbose, exit_first=options.exitfirst, forks=forks)
    return run_model.outcome.exit_code


def _import_at_once(settings: Settings) -> None:
    """What this command needs, and what its workers do, which are forked from it."""
    with quick_imports():
        from harness.engine import pool  # noqa: F401
        from harness.reports import terminal  # noqa: F401

        if settings.step is not None:
            import_dynamo()


def check_settings(options: argparse.Namespace) -> Settings:
    """What the options of :func:`add_check_options` say.

    Raises:
        UsageError: as :func:`harness.config.load_settings`.
    """
    return load_settings(
        {
            "loss": options.loss,
            "step": options.step,
            "subject_root": options.subject_root,
            "similarity": options.similarity,
            "truth": options.truth,
            "arguments": options.argument,
            "call": options.call,
            "reduce": options.reduce,
            "scale": options.scale,
            "promises": options.promise,
            "without": options.without,
            "strict": options.strict,
            "images": options.images,
            "precisions": options.precision,
            "properties": options.property,
            "max_examples": options.max_examples,
            "seed": options.seed,
            "max_time": options.max_time,
            "workers": options.workers,
            "case_timeout": options.case_timeout,
            "cases_dir": options.cases_dir,
            "regressions_dir": options.regressions_dir,
            "baseline": options.baseline,
        }
    )


def check(
    settings: Settings,
    run_model: RunModel,
    reports: Sequence[Rendering] = (),
    *,
    verbose: bool = False,
    exit_first: bool = False,
    forks: bool = False,
) -> None:
    """Check, write the reports, and print.

    Args:
        run_model: hears the run.
        verbose: show what the subject prints.
        exit_first: run nothing more after the first violation that counts.
        forks: workers may be forked from this process, which has run nothing but the harness.

    Raises:
        HarnessError: there is nothing to check, or it can't be.
        OSError: a report can't be written.
    """
    from harness.cases.image_folder import ImageFolder
    from harness.engine.events import Event, RunStarted
    from harness.engine.plan import plan
    from harness.engine.pool import run_pooled
    from harness.engine.session import subject_kinds
    from harness.findings.known_cases import known_cases
    from harness.findings.recorder import CaseRecorder
    from harness.precision import left_out
    from harness.reports.console import report_console
    from harness.reports.environment import environment
    from harness.reports.json_report import report
    from harness.reports.progress import ProgressBar, RunProgress
    from harness.reports.terminal import show_run

    console = report_console()
    if settings.images:
        ImageFolder(settings.images)
    tasks = plan(subject_kinds(settings), settings.properties, settings.precisions)
    spared = None if settings.precisions else left_out()
    known, bar = known_cases(settings, tasks), ProgressBar(console, late=True)
    progress = RunProgress(bar, run_model, verbose)

    def listen(event: Event) -> None:
        run_model(event)
        progress(event)

    def ends_run(result: TaskResult) -> bool:
        return exit_first and run_model.cell_of(result.task).counts

    started, recorder = RunStarted(tasks, settings, environment(), spared), CaseRecorder(settings)
    try:
        with bar:
            # Nothing of it is on the terminal.
            run_pooled(started, listen, recorder, known, ends_run, shows=bool(reports), forks=forks)
    except (Interrupted, KeyboardInterrupt):
        run_model.ended = "interrupted"
        raise
    finally:
        # Before anything is printed, so that no output that fails can cost them.
        unwritten = write_reports(reports, report(run_model)) if reports else None
    show_run(run_model, console)
    if unwritten is not None:
        raise unwritten


def write_reports(reports: Sequence[tuple[Path, Callable[[Path, T], None]]], told: T) -> OSError | None:
    """Write each report of what is told into its file; one that can't be written costs no other.

    Returns:
        Why the first of those that couldn't be written wasn't, or ``None``.
    """
    unwritten = None
    for path, write in reports:
        try:
            write(path, told)
        except OSError as error:
            unwritten = unwritten or error
    return unwritten
